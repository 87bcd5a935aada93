#!/usr/bin/env bash
# Builds the image from a clean copy of the last commit and verifies that it serves under production conditions: as an
# unprivileged user, on a read-only root file system, without a network. It ends with a list of what was and was not
# verified.
#
#   deploy/prove-image.sh [--stand-in] [--bundle DIR | --gpu] [--work DIR]
#
#   --stand-in    if no image registry is reachable: build substitutes for the base images from the same Debian packages
#                 and the Rust toolchain of this machine
#   --bundle DIR  build the image without a model, and mount this bundle instead
#   --gpu         build the image for GPUs; verify that the server says what is missing, and that it runs on the CPU
#   --work DIR    folder for all build files (15 GB); existing files, including compiled crates, are reused
#
# Requires root, Python 3, and the Debian packages buildah, iproute2 and, for --stand-in, mmdebstrap. It starts no daemon.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 64; }
stand_in=no bundle='' gpu=no work=''
while [ $# -gt 0 ]; do
  case $1 in
    --stand-in) stand_in=yes ;;
    --gpu) gpu=yes ;;
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

verified=() not_verified=()
say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
passed() { verified+=("$*"); say "passed: $*"; }

# buildah keeps its cache mounts below TMPDIR.
export TMPDIR=$work/tmp
mkdir -p "$TMPDIR"
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }

### Base images

# Prints the default value of an argument of the Dockerfile.
argument() { sed -n "s/^ARG $1=//p" Dockerfile; }

# Creates an image from a folder. Further arguments are passed to `buildah config`.
image_of() {
  local name=$1 folder=$2 container
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder" / >/dev/null
  buildah config "${@:3}" "$container"
  buildah commit --quiet "$container" "$name" >/dev/null
  buildah rm "$container" >/dev/null
}

# Debian of the same release, with a C compiler and this machine's Rust toolchain.
stand_in_for_build() {
  local reference=$1 suite version folder=$work/build-image
  version=${reference#*rust:} version=${version%%-*}
  suite=${reference%@*} suite=${suite##*-}
  rustc --version | grep -qF "rustc $version " || fail "the image uses Rust $version, but this machine has $(rustc --version)"
  if ! [ -d "$folder" ]; then
    mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$folder.new"
    cp -a "$(rustc --print sysroot)" "$folder.new/usr/local/rust"
    # The CA certificates of this machine, which may include a proxy's.
    cp /etc/ssl/certs/ca-certificates.crt "$folder.new/etc/ssl/certs/ca-certificates.crt"
    mv "$folder.new" "$folder"
  fi
  image_of build-stand-in "$folder" --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

# The packages of distroless/cc, unpacked but not configured, like in the original image.
stand_in_for_runtime() {
  local reference=$1 suite folder=$work/runtime-image
  case $reference in
    */cc-debian13:*) suite=trixie ;;
    *) fail "no stand-in for $reference" ;;
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
    passed "$reference can be pulled with this digest"
  elif [ "$stand_in" = yes ]; then
    say "$reference cannot be pulled; building a stand-in"
    "$make" "$reference"
    base=localhost/$name
    not_verified+=("$reference exists and matches the stand-in: $(tail -n 1 "$work/pull.log" | cut -c 1-200)")
  else
    fail "$reference cannot be pulled ($(tail -n 1 "$work/pull.log")); use --stand-in to build a stand-in"
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
  not_verified+=("uncommitted changes")
fi

target=embedd
if [ -n "$bundle" ]; then target=server; fi
if [ "$gpu" = yes ]; then
  [ -z "$bundle" ] || usage
  target=cuda
fi
say "building target $target of $(git rev-parse --short HEAD)"
buildah build --isolation chroot --format docker --target "$target" --tag "$target" \
  --build-arg BUILD_IMAGE="$build_image" --build-arg RUNTIME_IMAGE="$runtime_image" "$source"
passed "buildah builds the target $target from a clean copy"

container=$(buildah from "localhost/$target")
root=$(buildah mount "$container")
trap 'buildah rm "$container" >/dev/null' EXIT
configuration() { buildah inspect --type image --format "$1" "localhost/$target"; }
mapfile -t entrypoint < <(configuration '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t arguments < <(configuration '{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t environment < <(configuration '{{range .Docker.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
mapfile -t check < <(configuration '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed '/^$/d')
user=$(configuration '{{.Docker.Config.User}}')
[ "$(configuration '{{.Docker.Config.StopSignal}}')" = SIGTERM ] || fail "the stop signal of the image is not SIGTERM"
[ "${check[0]}" = CMD ] || fail "the image has no health check command: ${check[*]}"
[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "the user of the image is $user, not a numeric id other than root"

say "size: $(du -sm --apparent-size "$root" | cut -f 1) MB in total; $(du -sm --apparent-size "$root"/usr/local/bin "$root"/var/lib/embedd "$root"/bundle 2>/dev/null | awk -v root="$root" '{ sub(root, "", $2); printf "%s %s MB  ", $2, $1 }')"

# Prints the libraries of a file in the image, like `ldd`, which needs a shell. (The loader's `--list` stops at the first
# library that is missing.)
trace() {
  python3 -c 'import os, sys
root, *command = sys.argv[1:]
os.chroot(root)
os.chdir("/")
os.execve(command[0], command, {"LD_TRACE_LOADED_OBJECTS": "1"})' "$@"
}

loader=$(cd "$root" && echo /lib64/ld-linux-*.so.*)
# The server loads the libraries of each folder itself, in the order of their dependencies. The driver is the host's.
for file in usr/local/bin/embedd $(cd "$root" && find var/lib/embedd -name '*.so*' -type f); do
  linked=$(trace "$root" "$loader" --library-path "/${file%/*}" "/$file")
  ! grep 'not found' <<<"$linked" | grep -qv 'libcuda.so.1 ' || fail "/$file: $linked"
done
passed "the program and the libraries find all libraries that they need in the image, except for NVIDIA's driver"

### The server

if [ -n "$bundle" ]; then
  mkdir "$root/bundle"
fi
mkdir -p "$root/proc" "$root/dev/shm"
# A read-only file system with /dev/shm, as in every container, loopback as the only network, a process namespace of its own, and the image's user.
export root bundle user
server() {
  exec unshare --mount --net --ipc --uts --pid --fork --kill-child --propagation private bash -c '
    set -e
    ip link set lo up
    mount --bind "$root" "$root"
    if [ -n "$bundle" ]; then mount --bind "$bundle" "$root/bundle"; mount -o remount,bind,ro "$root/bundle"; fi
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
    mount -t proc proc "$root/proc"
    exec "$@"' bash env --ignore-environment "${environment[@]}" \
    chroot --userspec="$user" "$root" "${entrypoint[@]}" "${arguments[@]}"
}
if [ "$gpu" = yes ]; then
  code=0
  (server 2>"$work/server.log") || code=$?
  if [ -e /dev/nvidiactl ]; then
    not_verified+=("the error on a machine without a GPU")
  else
    if [ "$code" != 1 ] || ! grep -q "NVIDIA's driver cannot be loaded" "$work/server.log"; then
      fail "without a driver, the server ended with exit code $code: $(tail -n 3 "$work/server.log")"
    fi
    passed "without a driver, the server says so and ends with exit code 1"
  fi
  environment+=(EMBEDD_DEVICE=cpu EMBEDD_ENGINE=fp16)
  not_verified+=("a GPU: the engine fp16 runs on the CPU here")
fi
server 2>"$work/server.log" &
sandbox=$!
trap 'kill -KILL "$sandbox" 2>/dev/null || true; buildah rm "$container" >/dev/null' EXIT
for _ in $(seq 100); do
  pid=$(cat "/proc/$sandbox/task/$sandbox/children" 2>/dev/null | tr -d ' ')
  if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe")" = "${entrypoint[0]}" ]; then break; fi
  sleep 0.1
done
[ -n "$pid" ] || fail "the server did not start: $(tail -n 3 "$work/server.log")"

# Runs a command in the sandbox, as the image's user.
inside() {
  nsenter --target "$pid" --mount --net --pid -- \
    env --ignore-environment "${environment[@]}" chroot --userspec="$user" "$root" "$@"
}

ready=no
for _ in $(seq 120); do
  if inside "${check[@]:1}" >/dev/null 2>&1; then ready=yes && break; fi
  sleep 0.5
done
[ $ready = yes ] || fail "the server did not become ready: $(tail -n 3 "$work/server.log")"
passed "the health check of the image reports SERVING: $(inside "${check[@]:1}")"

[ "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" = "${user%:*}" ] || fail "the server runs as another user"
[ "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" = 0000000000000000 ] || fail "the server has capabilities"
! nsenter --target "$pid" --mount -- touch "$root/tmp-file" 2>/dev/null || fail "the root file system is writable"
[ "$(nsenter --target "$pid" --net -- ip -o link | wc -l)" = 1 ] || fail "the sandbox has a network"
passed "the server runs as user $user without capabilities, on a read-only root file system, with loopback only"

inside "${entrypoint[@]}" load --concurrency 1 --duration 1s --warm-up 0s
inside "${entrypoint[@]}" admin validate >"$work/validation.txt" || fail "$(cat "$work/validation.txt")"
tail -n 3 "$work/validation.txt"
passed "the server answers Embed, and its embeddings pass the accuracy gate (embedd admin validate)"

memory() { awk -v name="$1:" '$1 == name { printf "%d MiB", $2 / 1024 }' "/proc/$pid/status"; }
resident=$(memory VmRSS)
inside "${entrypoint[@]}" admin reload >/dev/null
passed "the server reloads its model; memory: $resident before, $(memory VmHWM) peak"

kill -TERM "$pid"
code=0
wait "$sandbox" || code=$?
[ $code = 0 ] || fail "SIGTERM ended the server with exit code $code: $(tail -n 3 "$work/server.log")"
passed "SIGTERM ends the server with exit code 0"
trap 'buildah rm "$container" >/dev/null' EXIT

not_verified+=("effects of a container runtime and a kubelet: cgroups, seccomp, probes" "processors other than $(uname -m)")
if [ -n "$bundle" ]; then
  not_verified+=("the image with a model")
fi
printf '\nVerified:\n'
printf '* %s\n' "${verified[@]}"
printf '\nNot verified:\n'
printf '* %s\n' "${not_verified[@]}"
