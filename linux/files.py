"""System calls on files that the standard library lacks."""

from __future__ import annotations

import ctypes
import errno
import os

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_XDEV = 1
_RESOLVE_NO_SYMLINKS = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def sync_file_system(descriptor: int) -> None:
    """syncfs(2): bring the whole file system that holds `descriptor` to the disk. Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_directory_here(name: str, parent: int) -> int:
    """A descriptor of the directory `name` in the directory `parent`, on the same mount and reached through no link.

    Raises OSError: EXDEV if something is mounted on it (a bind mount of the same file system, too), ELOOP for a link. Linux 5.6; on older
    ones mount ids are compared.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    how = _OpenHow(flags=flags, mode=0, resolve=_RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS)
    descriptor = _libc.syscall(_OPENAT2, parent, os.fsencode(name), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    if descriptor >= 0:
        return int(descriptor)
    number = ctypes.get_errno()
    if number != errno.ENOSYS:
        raise OSError(number, os.strerror(number), name)
    opened = os.open(name, flags, dir_fd=parent)
    if _mount_id(opened) != _mount_id(parent):
        os.close(opened)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return opened


def _mount_id(descriptor: int) -> str:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
