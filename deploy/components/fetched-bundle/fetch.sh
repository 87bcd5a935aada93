#!/bin/sh
# Runs the command of its arguments, which downloads a tarball with a bundle to its working folder, verifies the
# tarball, and moves the bundle in it to the folder `bundle`. The bundle may be in any folder of the tarball.
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

tar -xzf "$1" -C unpacked
manifest=$(find unpacked -name manifest.json)
[ -f "$manifest" ] || fail "$1 does not hold one bundle: manifest.json is in ${manifest:-no folder}"
rm -r download
mv "${manifest%/*}" bundle
rm -rf unpacked
