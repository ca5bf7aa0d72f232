#!/bin/sh
# tarball.sh OUTPUT: everything that host-units/install.sh installs, and itself, as a .tar.gz that is unpacked and installed from on a host
# without a source tree: `sh host-units/install.sh install` in its only folder. Beside it OUTPUT.sha256, as `sha256sum --check` reads it.
# The same build gives the same bytes: files are dated by SOURCE_DATE_EPOCH, or by the last commit.
set -eu
export LC_ALL=C

output=$1
name=$(basename "$output" .tar.gz)
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
sources=$(sed -e '/^ *#/d' -e '/^ *$/d' host-units/files.table | while read -r kind source _; do
    case $kind in text | config | file | tree) echo "$source" ;; esac
done)

# shellcheck disable=SC2086 # one word each
tar --create --file - --format gnu --sort name --owner 0 --group 0 --numeric-owner --mtime "@$date" --mode u+rwX,go=rX \
    --transform "flags=rSh;s|^|$name/|" host-units/files.table $(printf '%s\n' $sources host-units/install.sh | sort -u) |
    gzip --no-name -1 >"$output.part"
mv "$output.part" "$output"
(cd "$(dirname "$output")" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
