#!/bin/sh
# packages.sh build|test: install the Debian packages that building, or testing, needs and that this machine lacks.
set -eu

build='binutils debian-archive-keyring libpython3.11 python3-venv'
# The validator of images that is not ours, what fleets install hosts with, programs for small images, and what the throw-away hosts need.
test="ansible-core appc-spec busybox-static gcc gpg gpgv ignition libc6-dev musl-tools systemd $(grep -v '^#' "$(dirname "$0")/../tests/hosts/packages.txt" | tr '\n' ' ')"

case ${1:-} in
build) wanted=$build ;;
test) wanted="$build $test" ;;
*)
    echo 'usage: packages.sh build|test' >&2
    exit 2
    ;;
esac

missing=
for package in $wanted; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "these Debian packages are needed: apt-get install$missing" >&2
    exit 1
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # one word each
if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt could not install:$missing" >&2
    exit 1
fi
