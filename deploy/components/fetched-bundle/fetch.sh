#!/bin/sh
# Runs the command of its arguments, which downloads a tarball of `embedd package` to the working directory's folder
# `download`, verifies the tarball, and unpacks it to the folder `bundle`.
#
#   BUNDLE_SHA256=SUM fetch.sh COMMAND...
#
# For the shells of dash and BusyBox.
set -eu

fail() {
  printf 'fetch.sh: %s\n' "$1" >&2
  exit 1
}

# The folder gets its name when it is complete, so a container that starts again has nothing left to do.
if [ -d bundle ]; then
  exit 0
fi
case ${BUNDLE_SHA256:?is not set: the checksum of the tarball} in
  *[!0-9a-f]*) fail 'BUNDLE_SHA256 is not a checksum in lowercase hexadecimal' ;;
esac
[ "${#BUNDLE_SHA256}" -eq 64 ] || fail 'BUNDLE_SHA256 does not have 64 digits'

rm -rf download unpacked
mkdir download unpacked
(cd download && "$@") || fail "the download failed: $*"

set -- download/*
[ $# -eq 1 ] && [ -f "$1" ] || fail "expected one file, but the download has: $*"
sum=$(sha256sum "$1")
[ "${sum%% *}" = "$BUNDLE_SHA256" ] || fail "$1 has the sha256 ${sum%% *}, not $BUNDLE_SHA256"

# Without the folders onnx_models/MODEL.
tar -xzf "$1" -C unpacked --strip-components=2
[ -f unpacked/manifest.json ] || fail "$1 was not written by \`embedd package\`: it has no manifest.json"
rm -r download
mv unpacked bundle
