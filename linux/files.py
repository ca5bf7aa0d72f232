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


class _DirectoryEntry(ctypes.Structure):
    """struct dirent of readdir(3) on 64-bit Linux."""

    _fields_ = (
        ("inode", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    )


def entry_types(path: str) -> list[int]:
    """The types (DT_…) that the file system itself gives for the entries of a directory, `.` and `..` left out; 0 where it gives none.

    os.scandir does not tell: it asks for each entry on its own what the directory does not say. Raises OSError.
    """
    _libc.fdopendir.restype = ctypes.c_void_p
    _libc.fdopendir.argtypes = [ctypes.c_int]
    _libc.readdir.restype = ctypes.POINTER(_DirectoryEntry)
    _libc.readdir.argtypes = [ctypes.c_void_p]
    _libc.closedir.argtypes = [ctypes.c_void_p]
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = _libc.fdopendir(descriptor)
    if not stream:
        os.close(descriptor)
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    found = []
    try:
        while entry := _libc.readdir(stream):
            if entry.contents.name not in (b".", b".."):
                found.append(entry.contents.type)
    finally:
        _libc.closedir(stream)
    return found


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
