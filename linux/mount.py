"""mount(2), umount2(2) and /proc/self/mountinfo (proc(5)). Nothing else in the project mounts."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)


class MountPoint(NamedTuple):
    """One line of mountinfo: where, of what kind, and its super block's options (`lowerdir=…` of an overlay)."""

    target: str
    fstype: str
    source: str
    options: str


def mount(source: str, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError whose filename is the target."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        None if fstype is None else fstype.encode(),
        ctypes.c_ulong(flags),
        None if data is None else os.fsencode(data),
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {fstype or source}: {os.strerror(number)}", target)


def unmount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """umount2(2). Raises OSError whose filename is the target; EINVAL means that nothing is mounted there."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"umount: {os.strerror(number)}", target)


def bind(source: str, target: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """Bind `source` on `target`, private to where it is made; a read-only bind takes the second, remounting call that Linux asks for.

    With `recursive` and `read_only` every mount below is made read-only too. Raises OSError; nothing stays mounted then.
    """
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    try:
        mount("none", target, None, MS_PRIVATE | (MS_REC if recursive else 0))
        if read_only:
            for below in mounts_below(target) if recursive else [target]:
                make_read_only(below)
    except OSError:
        unmount(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        raise


def bind_at(source: str, parent: int, name: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """`bind` on what `name` is in the directory that `parent` is a descriptor of, whatever becomes of the path to it. Raises OSError."""
    with _place(parent, name) as place:
        mount(source, place, None, MS_BIND | (MS_REC if recursive else 0))
    with _place(parent, name) as mounted:  # opened again, it is what is mounted there
        try:
            mount("none", mounted, None, MS_PRIVATE | (MS_REC if recursive else 0))
            if read_only:
                top = os.readlink(mounted)
                for below in mounts_below(top) if recursive else [top]:
                    make_read_only(mounted + below[len(top) :])
        except OSError:
            unmount(mounted, MNT_DETACH)
            raise


@contextmanager
def _place(parent: int, name: str) -> Iterator[str]:
    """A path that leads to it without a walk; nothing is followed to it."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def overlay(target: str, *, lower: Sequence[str], upper: str = "", work: str = "") -> None:
    """An overlay of the directories `lower`, the uppermost first; read-only without `upper`. Raises OSError."""
    options = "lowerdir=" + ":".join(_overlay_escape(path) for path in lower)
    if upper:
        options += f",upperdir={_overlay_escape(upper)},workdir={_overlay_escape(work)}"
    mount("overlay", target, "overlay", 0 if upper else MS_RDONLY, options)


def _overlay_escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def make_read_only(target: str) -> None:
    """This mount, and none that is below it. Raises OSError."""
    mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | _kept_flags(target))


def _kept_flags(path: str) -> int:
    """The flags that a remount must repeat, or Linux takes them away (mount(2), MS_REMOUNT|MS_BIND)."""
    return os.statvfs(path).f_flag & (MS_NOSUID | MS_NODEV | 8 | 1024 | 2048)


def mount_points(mentioning: str = "", *, table: str = "/proc/self/mountinfo") -> list[MountPoint]:
    """All mounts of this process's mount namespace, in the order they were made; or those alone whose line mentions a text."""
    found = []
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if mentioning not in line:
                continue
            fields = line.split()
            dash = fields.index("-")
            found.append(
                MountPoint(
                    target=_unescape(fields[4]), fstype=fields[dash + 1], source=_unescape(fields[dash + 2]), options=fields[dash + 3]
                )
            )
    return found


def mounts_below(path: str) -> list[str]:
    """Mount points at `path` and below it, in the order they were made; a path mounted twice is listed twice."""
    top = os.path.abspath(path)
    prefix = top.rstrip("/") + "/"
    return [point.target for point in mount_points(_last_part(top)) if point.target == top or point.target.startswith(prefix)]


def _last_part(path: str) -> str:
    """What a line about `path` is sure to contain: its last part as far as mountinfo does not escape it."""
    part = path.rpartition("/")[2]
    return "" if any(character in part for character in " \t\n\\#") else part


def unmount_below(path: str, *, lazy_if_busy: bool = True) -> int:
    """Unmount everything at `path` and below it, last made first, and return how many mounts went.

    What is busy is detached lazily (as rkt's gc does, contract section 3.2) unless told not to; raises OSError for anything else.
    """
    count = 0
    for target in reversed(mounts_below(path)):
        try:
            unmount(target)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue
            if error.errno != errno.EBUSY or not lazy_if_busy:
                raise
            unmount(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        count += 1
    return count


def _unescape(field: str) -> str:
    """mountinfo writes blank, tab, newline and backslash as a backslash and three octal digits."""
    if "\\" not in field:
        return field
    parts = field.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])
