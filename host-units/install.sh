#!/bin/sh
# install.sh install|uninstall: what `make install` and `make uninstall` run, from the top of the source tree.
# install.sh check: only asks whether install can do its work here, before anything is built for it.
#   DESTDIR  a staging directory for packagers: files only, nothing is started and no root is needed
#   PREFIX   where the appliance lives (default /opt/skim)
#   BINDIR   where its commands are linked (default /usr/local/bin, or /opt/bin where /usr is read-only); what is staged without links that
#            the host then has, `skim setup` links there by the same rule
#   TABLE    the list of files (default files.table beside this script)
# Every file, directory and link that is made is noted in PREFIX/share/skim/installed, and uninstall takes back exactly those: it works
# for whatever version is there. A file of somebody else's that is in the way is moved to PREFIX/share/skim/replaced and comes back.
set -euf
umask 022

DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}
PREFIX=${PREFIX:-/opt/skim}
TABLE=${TABLE:-$(dirname "$0")/files.table}
share=$DESTDIR$PREFIX/share/skim
record=$share/installed
backup=$share/replaced

fail() {
    echo "$verb: $1" >&2
    exit 1
}

# Everything is noted before it is done: killed in between, the next install or uninstall knows of it, and what was noted in vain is passed
# over. The other way round our own file would be taken for somebody's, or somebody's for nobody's.
note() { # kind path
    grep -qxF "$1 $2" "$record" || printf '%s %s\n' "$1" "$2" >>"$record"
}

# Only a directory that was not there is noted, so that only those go again.
make_directory() { # path within DESTDIR
    case $1 in / | '') return 0 ;; esac
    [ -d "$DESTDIR$1" ] && return 0
    make_directory "$(dirname "$1")"
    note directory "$1"
    mkdir "$DESTDIR$1"
}

# The record's own directories, before there is a record: that comes with the last of them, in one rename.
make_share() {
    [ ! -d "$share" ] || return 0
    missing=$PREFIX/share/skim
    while [ ! -d "$DESTDIR$(dirname "$missing")" ]; do missing=$(dirname "$missing"); done
    above=$(dirname "$missing")
    above=${above%/}
    scratch=$DESTDIR$above/.skim-install
    rm -rf "$scratch" # of an install that was killed right here
    inside=$scratch${share#"$DESTDIR$missing"}
    mkdir -p "$inside"
    directory=$PREFIX/share/skim
    while [ "$directory" != "${above:-/}" ]; do
        printf 'directory %s\n' "$directory"
        directory=$(dirname "$directory")
    done >"$inside/installed"
    mv "$scratch" "$DESTDIR$missing"
}

# Moves what is not ours out of the way.
clear_way() { # path within DESTDIR
    [ -e "$DESTDIR$1" ] || [ -L "$DESTDIR$1" ] || return 0
    if grep -qxF "ours $1" "$record" || grep -qxF "tree $1" "$record"; then
        rm -rf "$DESTDIR$1"
        return 0
    fi
    mkdir -p "$backup$(dirname "$1")"
    note replaced "$1"
    mv "$DESTDIR$1" "$backup$1"
    echo "install: $1 was there already: kept in $PREFIX/share/skim/replaced and put back by uninstall"
}

has_other_command() { # name
    for directory in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin /opt/bin; do
        [ "$directory" = "$BINDIR" ] && grep -qxF "ours $BINDIR/$1" "$record" && continue
        [ -e "$DESTDIR$directory/$1" ] && return 0
    done
    return 1
}

read_table() {
    sed -e '/^ *#/d' -e '/^ *$/d' -e "s|@PREFIX@|$PREFIX|g" -e "s|@BINDIR@|$BINDIR|g" "$TABLE"
}

check_prefix() {
    case $PREFIX in
    *[[:space:]\|\&\\]* | */ | *//* | */./* | */../*) fail "PREFIX must be a plain path without blanks and | & \\, not '$PREFIX'" ;;
    /*) ;;
    *) fail "PREFIX must be an absolute path, not '$PREFIX'" ;;
    esac
}

check_sources() {
    missing=''
    while read -r kind source _; do
        case $kind in
        text | config | file) [ -f "$source" ] || missing="$missing $source" ;;
        tree) [ -d "$source" ] || missing="$missing $source" ;;
        link | command | aside) ;;
        *) fail "$TABLE: no such kind: $kind" ;;
        esac
    done <<END
$(read_table)
END
    [ -z "$missing" ] || fail "not built yet:$missing (run 'make aci')"
}

# On the host itself: everything that could stop us later is asked first, so that a refusal leaves nothing changed.
check_host() {
    [ "$(id -u)" = 0 ] || fail "needs root (or DESTDIR=, to stage the files for a package)"
    [ -d /run/systemd/system ] || fail "needs systemd as PID 1; DESTDIR= stages the files without it"
}

install_entry() { # kind source destination mode
    if [ "$1" = command ] && has_other_command "${3##*/}"; then
        echo "install: ${3##*/} is there already; ours is $2"
        return 0
    fi
    if [ "$1" = aside ]; then
        note aside "$3"
        return 0
    fi
    make_directory "$(dirname "$3")"
    if [ "$1" = config ]; then
        note config "$3"
        sed "s|@PREFIX@|$PREFIX|g" "$2" >"$share/${3##*/}.installed"
        [ -e "$DESTDIR$3" ] || install -m "$4" "$share/${3##*/}.installed" "$DESTDIR$3"
        return 0
    fi
    clear_way "$3"
    case $1 in
    tree) note tree "$3" ;;
    *) note ours "$3" ;;
    esac
    case $1 in
    text)
        sed "s|@PREFIX@|$PREFIX|g" "$2" >"$DESTDIR$3"
        chmod "$4" "$DESTDIR$3"
        ;;
    file) install -m "$4" "$2" "$DESTDIR$3" ;;
    tree) cp -R "$2" "$DESTDIR$3" ;;
    link | command) ln -s "$2" "$DESTDIR$3" ;;
    esac
}

forget() { # line of the record
    grep -vxF "$1" "$record" >"$record.new" || :
    mv "$record.new" "$record"
}

# What a former version put and this one has no more: it goes, and what it had replaced is back, unless `skim setup` has to keep that aside.
drop_stale() {
    wanted=$(read_table | while read -r _ _ destination _; do echo "$destination"; done)
    while read -r kind path; do
        case $kind in ours | tree | config) ;; *) continue ;; esac
        if printf '%s\n' "$wanted" | grep -qxF "$path" && ! grep -qxF "aside $path" "$record"; then continue; fi
        case $kind in
        config) remove_config "$path" ;;
        *) rm -rf "$DESTDIR${path:?}" ;;
        esac
        if grep -qxF "replaced $path" "$record" && ! grep -qxF "aside $path" "$record"; then
            put_back "$path"
            forget "replaced $path"
        fi
        forget "$kind $path"
    done <<END
$(cat "$record")
END
}

do_install() {
    [ -n "$DESTDIR" ] || check_host
    check_sources
    [ -z "$DESTDIR" ] || mkdir -p "$DESTDIR"
    make_share
    [ -e "$record" ] || : >"$record"
    while read -r kind source destination mode; do
        install_entry "$kind" "$source" "$destination" "$mode"
    done <<END
$(read_table)
END
    drop_stale
    if [ -n "$DESTDIR" ]; then
        echo "install: staged in $DESTDIR; on the host, 'skim setup' does the rest"
        return 0
    fi
    "$PREFIX/bin/skim" setup
}

put_back() { # path: what was there before ours
    [ -e "$backup$1" ] || [ -L "$backup$1" ] || return 0
    rm -rf "${DESTDIR:-}${1:?}"
    mv "$backup$1" "$DESTDIR$1"
}

remove_config() { # path: only if nobody changed it
    installed=$share/${1##*/}.installed
    if [ -e "$DESTDIR$1" ] && ! cmp -s "$installed" "$DESTDIR$1"; then
        echo "uninstall: $1 was changed, so it stays"
    else
        rm -f "$DESTDIR$1"
    fi
}

# What tmpfiles.d made for the commands while there is no engine. Only what is empty goes: another pod may have its ways there.
clear_run() { # the file of tmpfiles.d
    [ -r "$1" ] || return 0
    sed -n 's/^L \([^ ]*\) .*/\1/p' "$1" | while read -r path; do
        [ ! -L "$path" ] || rm -f "$path"
    done
    sed -n 's/^d \([^ ]*\) .*/\1/p' "$1" | sort -r | while read -r path; do
        rmdir "$path" 2>/dev/null || :
    done
}

do_uninstall() {
    [ -n "$DESTDIR" ] || check_host
    [ -r "$record" ] || fail "nothing of skim is installed below $DESTDIR$PREFIX"
    [ -n "$DESTDIR" ] || ! [ -x "$PREFIX/bin/skim" ] || "$PREFIX/bin/skim" remove
    [ -n "$DESTDIR" ] || clear_run /etc/tmpfiles.d/skim.conf
    lines=$(cat "$record")
    # Files first, each giving way to what it replaced, then the directories that are empty now, deepest first. May be run again after it was
    # killed: what has been put back already is not ours any more.
    while read -r kind path; do
        case $kind in
        ours)
            if grep -qxF "replaced $path" "$record"; then put_back "$path"; else rm -f "$DESTDIR$path"; fi
            ;;
        tree) rm -rf "$DESTDIR${path:?}" ;;
        config) remove_config "$path" ;;
        esac
    done <<END
$lines
END
    while read -r kind path; do
        case $kind in replaced | aside) put_back "$path" ;; esac
    done <<END
$lines
END
    # The record last, with its directories: until then another uninstall finishes this one.
    rm -rf "$backup"
    printf '%s\n' "$lines" | sed -n 's/^directory //p' | sort -r | while read -r path; do
        case $PREFIX/share/skim/ in "$path"/*) ;; *) rmdir "$DESTDIR$path" 2>/dev/null || : ;; esac
    done
    rm -rf "$share"
    printf '%s\n' "$lines" | sed -n 's/^directory //p' | sort -r | while read -r path; do
        rmdir "$DESTDIR$path" 2>/dev/null || :
    done
    [ -n "$DESTDIR" ] || systemctl daemon-reload
    echo "uninstall: done; /var/lib/docker is as it was"
}

can_be_written() { # directory, or one that could be made
    directory=$1
    while [ ! -d "$directory" ]; do directory=$(dirname "$directory"); done
    [ -w "$directory" ]
}

verb=${1:-}
check_prefix
if [ -z "${BINDIR:-}" ]; then
    BINDIR=/usr/local/bin
    if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ] && ! can_be_written "$BINDIR"; then BINDIR=/opt/bin; fi
fi
case $verb in
check) [ -n "$DESTDIR" ] || { verb=install && check_host; } ;;
install) do_install ;;
uninstall) do_uninstall ;;
*)
    echo "usage: $0 check|install|uninstall (environment: DESTDIR, PREFIX, BINDIR)" >&2
    exit 2
    ;;
esac
