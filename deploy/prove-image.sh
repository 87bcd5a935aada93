#!/usr/bin/env bash
# Builds the image from a clean copy of the last commit and shows that it serves as it will have to: for a user without
# rights, on a read-only root file system, without network. It says at its end what it has shown and what not.
#
#   deploy/prove-image.sh [--stand-in] [--bundle DIR] [--work DIR]
#
#   --stand-in    where a registry of base images cannot be reached: make them of the same Debian packages and of the Rust
#                 that is installed here
#   --bundle DIR  do not convert a model while the image is built: mount this bundle in the image without one
#   --work DIR    where everything is built (15 GB); what is there already, compiled crates among it, is used again
#
# Needs root, and Debian's packages buildah, iproute2 and, for --stand-in, mmdebstrap. It starts no daemon.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 64; }
stand_in=no bundle='' work=''
while [ $# -gt 0 ]; do
  case $1 in
    --stand-in) stand_in=yes ;;
    --bundle) bundle=$(realpath "${2:?}") && shift ;;
    --work) work=${2:?} && shift ;;
    *) usage ;;
  esac
  shift
done
if [ -z "$work" ]; then
  work=$(mktemp -d)
fi
mkdir -p "$work"
work=$(realpath "$work")

proven=() not_shown=()
say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
shown() { proven+=("$*"); say "shown: $*"; }

# Its cache mounts are below TMPDIR.
export TMPDIR=$work/tmp
mkdir -p "$TMPDIR"
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }

### Base images

# What the Dockerfile says that an argument is.
argument() { sed -n "s/^ARG $1=//p" Dockerfile; }

# An image of a folder, with variables of the environment.
image_of() {
  local name=$1 folder=$2 container
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder" / >/dev/null
  buildah config "${@:3}" "$container"
  buildah commit --quiet "$container" "$name" >/dev/null
  buildah rm "$container" >/dev/null
}

# A Debian of the same release with a C compiler, and this machine's Rust.
stand_in_for_build() {
  local reference=$1 suite version folder=$work/build-image
  version=${reference#*rust:} version=${version%%-*}
  suite=${reference%@*} suite=${suite##*-}
  rustc --version | grep -qF "rustc $version " || fail "the image has Rust $version, this machine $(rustc --version)"
  if ! [ -d "$folder" ]; then
    mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$folder.new"
    cp -a "$(rustc --print sysroot)" "$folder.new/usr/local/rust"
    # The authorities that this machine trusts, a proxy's among them.
    cp /etc/ssl/certs/ca-certificates.crt "$folder.new/etc/ssl/certs/ca-certificates.crt"
    mv "$folder.new" "$folder"
  fi
  image_of build-stand-in "$folder" --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

# The packages of distroless/cc, unpacked and not configured, as that image is made.
stand_in_for_runtime() {
  local reference=$1 suite folder=$work/runtime-image
  case $reference in
    */cc-debian13:*) suite=trixie ;;
    *) fail "no stand-in is known for $reference" ;;
  esac
  if ! [ -d "$folder" ]; then
    mmdebstrap --quiet --variant=extract \
      --include=base-files,netbase,tzdata,ca-certificates,media-types,libc6,libssl3t64,zlib1g,libgcc-s1,libgomp1,libstdc++6 \
      "$suite" "$folder.new"
    printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$folder.new/etc/passwd"
    rm -rf "$folder.new/var/lib/apt" "$folder.new/var/cache" "$folder.new/var/lib/dpkg"
    mv "$folder.new" "$folder"
  fi
  image_of runtime-stand-in "$folder" --user 65532 --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
}

base_image() {
  local argument=$1 make=$2 name=$3 reference
  reference=$(argument "$argument")
  if buildah pull --quiet "$reference" >/dev/null 2>"$work/pull.log"; then
    base=$reference
    shown "$reference can be pulled, with this digest"
  elif [ "$stand_in" = yes ]; then
    say "$reference cannot be pulled; making a stand-in"
    "$make" "$reference"
    base=localhost/$name
    not_shown+=("that $reference is there and as this stand-in: $(tail -n 1 "$work/pull.log" | cut -c 1-200)")
  else
    fail "$reference cannot be pulled ($(tail -n 1 "$work/pull.log")); --stand-in makes a stand-in"
  fi
}

base_image BUILD_IMAGE stand_in_for_build build-stand-in
build_image=$base
base_image RUNTIME_IMAGE stand_in_for_runtime runtime-stand-in
runtime_image=$base

### The image

source=$work/source
rm -rf "$source" && mkdir "$source"
git archive HEAD | tar -x -C "$source"
if ! git diff --quiet HEAD; then
  not_shown+=("anything of the changes that are not committed")
fi

if [ -n "$bundle" ]; then target=server; else target=embedd; fi
say "building the target $target of $(git rev-parse --short HEAD)"
buildah build --isolation chroot --format docker --target "$target" --tag "$target" \
  --build-arg BUILD_IMAGE="$build_image" --build-arg RUNTIME_IMAGE="$runtime_image" "$source"
shown "buildah builds the target $target from a clean copy"

container=$(buildah from "localhost/$target")
root=$(buildah mount "$container")
trap 'buildah rm "$container" >/dev/null' EXIT
configuration() { buildah inspect --type image --format "$1" "localhost/$target"; }
mapfile -t entrypoint < <(configuration '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t arguments < <(configuration '{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t environment < <(configuration '{{range .Docker.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t check < <(configuration '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed '/^$/d')
user=$(configuration '{{.Docker.Config.User}}')
[ "$(configuration '{{.Docker.Config.StopSignal}}')" = SIGTERM ] || fail "the image is stopped by another signal"
[ "${check[0]}" = CMD ] || fail "the image has no health check: ${check[*]}"
[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "the image's user is $user"

say "size: $(du -sm --apparent-size "$root" | cut -f 1) MB in all; $(du -sm --apparent-size "$root"/usr/local/bin "$root"/var/lib/embedd "$root"/bundle 2>/dev/null | awk -v root="$root" '{ sub(root, "", $2); printf "%s %s MB  ", $2, $1 }')"

for file in usr/local/bin/embedd $(cd "$root" && find var/lib/embedd -name 'libonnxruntime*'); do
  linked=$(chroot "$root" "$(cd "$root" && echo /lib64/ld-linux-*.so.*)" --list "/$file")
  ! grep -q 'not found' <<<"$linked" || fail "/$file: $linked"
done
shown "the program and ONNX Runtime find all their libraries in the image"

### The server

if [ -n "$bundle" ]; then
  mkdir "$root/bundle"
fi
mkdir -p "$root/proc"
# A file system that nobody can write to, no network but loopback, no other processes; then the image's user.
export root bundle user
server() {
  exec unshare --mount --net --ipc --uts --pid --fork --kill-child --propagation private bash -c '
    set -e
    ip link set lo up
    mount --bind "$root" "$root"
    if [ -n "$bundle" ]; then mount --bind "$bundle" "$root/bundle"; mount -o remount,bind,ro "$root/bundle"; fi
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    exec "$@"' bash env --ignore-environment "${environment[@]}" \
    chroot --userspec="$user" "$root" "${entrypoint[@]}" "${arguments[@]}"
}
server 2>"$work/server.log" &
sandbox=$!
trap 'kill -KILL "$sandbox" 2>/dev/null || true; buildah rm "$container" >/dev/null' EXIT
for _ in $(seq 100); do
  pid=$(cat "/proc/$sandbox/task/$sandbox/children" 2>/dev/null | tr -d ' ')
  if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe")" = "${entrypoint[0]}" ]; then break; fi
  sleep 0.1
done
[ -n "$pid" ] || fail "the server did not start: $(tail -n 3 "$work/server.log")"

# A command of the image, as the image's user.
inside() {
  nsenter --target "$pid" --mount --net --pid -- \
    env --ignore-environment "${environment[@]}" chroot --userspec="$user" "$root" "$@"
}

ready=no
for _ in $(seq 120); do
  if inside "${check[@]:1}" >/dev/null 2>&1; then ready=yes && break; fi
  sleep 0.5
done
[ $ready = yes ] || fail "the server did not get ready: $(tail -n 3 "$work/server.log")"
shown "the image's health check says SERVING: $(inside "${check[@]:1}")"

[ "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" = "${user%:*}" ] || fail "the server runs as another user"
[ "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" = 0000000000000000 ] || fail "the server has capabilities"
! nsenter --target "$pid" --mount -- touch "$root/tmp-file" 2>/dev/null || fail "the root file system can be written to"
[ "$(nsenter --target "$pid" --net -- ip -o link | wc -l)" = 1 ] || fail "there is a network"
shown "it runs as user $user without capabilities, on a read-only root file system, with loopback alone"

inside "${entrypoint[@]}" load --concurrency 1 --duration 1s --warm-up 0s
inside "${entrypoint[@]}" admin validate >"$work/validation.txt" || fail "$(cat "$work/validation.txt")"
tail -n 3 "$work/validation.txt"
shown "it answers Embed, and its embeddings pass the gate (embedd admin validate)"

memory() { awk -v name="$1:" '$1 == name { printf "%d MiB", $2 / 1024 }' "/proc/$pid/status"; }
resident=$(memory VmRSS)
inside "${entrypoint[@]}" admin reload >/dev/null
shown "it loads its model again beside itself; memory: $resident before, $(memory VmHWM) at most"

kill -TERM "$pid"
code=0
wait "$sandbox" || code=$?
[ $code = 0 ] || fail "SIGTERM ended it with $code: $(tail -n 3 "$work/server.log")"
shown "SIGTERM ends it with exit code 0"
trap 'buildah rm "$container" >/dev/null' EXIT

not_shown+=("what a container runtime and a kubelet add: cgroups, seccomp, probes" "other processors than $(uname -m)")
if [ -n "$bundle" ]; then
  not_shown+=("the image with a model in it")
fi
printf '\nShown:\n'
printf '* %s\n' "${proven[@]}"
printf '\nNot shown:\n'
printf '* %s\n' "${not_shown[@]}"
