"""Copying a rendered image into a pod, where overlay is missing or unwanted (contract section 2.3)."""

from __future__ import annotations

import os
import stat

# The extended attributes that rkt keeps when it unpacks an image.
_ATTRIBUTES = ("security.capability", "user.")
_PIECE = 1 << 30


def copy_tree(source: str, target: str) -> None:
    """Copy a directory to a new one: owners, modes, times, links (hard ones among the copies), devices, attributes. Raises OSError."""
    links: dict[tuple[int, int], str] = {}
    _copy_directory(source, target, links)


def _copy_directory(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    os.mkdir(target, 0o700)
    with os.scandir(source) as entries:
        found = sorted(entry.name for entry in entries)
    for name in found:
        _copy(os.path.join(source, name), os.path.join(target, name), links)
    _copy_metadata(source, target, os.lstat(source))


def _copy(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    status = os.lstat(source)
    if stat.S_ISDIR(status.st_mode):
        _copy_directory(source, target, links)
        return
    if status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), target)
        if first != target:
            os.link(first, target, follow_symlinks=False)
            return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_content(source, target, status.st_size)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _copy_metadata(source, target, status)


def _copy_content(source: str, target: str, size: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while size > 0:
                copied = os.copy_file_range(reading, writing, min(size, _PIECE))
                if copied == 0:
                    break
                size -= copied
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_metadata(source: str, target: str, status: os.stat_result) -> None:
    """Owner before mode and capabilities: a change of owner takes those away."""
    os.lchown(target, status.st_uid, status.st_gid)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            if name.startswith(_ATTRIBUTES):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
