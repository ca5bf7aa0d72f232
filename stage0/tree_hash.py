"""The hash of a rendered image, as rkt computes it (contract section 2.8), one built with a Go whose tar modes have no type bits."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

from appc.document import dump
from appc.image_id import key_of_digest

# What the tree store itself keeps beside the rootfs.
_LEFT_OUT = frozenset(("manifest", "hash", "rendered", "image"))
_PIECE = 1 << 20
_FLAGS = {
    stat.S_IFREG: "0",
    stat.S_IFDIR: "5",
    stat.S_IFLNK: "2",
    stat.S_IFIFO: "6",
    stat.S_IFCHR: "3",
    stat.S_IFBLK: "4",
}


class TreeFigures(NamedTuple):
    """`hash` in key form; `size` of everything in the tree in bytes, a file with several names counted once."""

    hash: str
    size: int


def measure_tree(directory: str) -> TreeFigures:
    """Raises OSError."""
    walk = _Walk()
    walk.visit(directory, "")
    return TreeFigures(hash=key_of_digest(walk.finish()), size=walk.size)


class _Walk:
    def __init__(self) -> None:
        self._digest = hashlib.sha512()
        self._names: dict[tuple[int, int], str] = {}
        self._pending = bytearray()
        self.size = 0

    def finish(self) -> str:
        self._digest.update(self._pending)
        return self._digest.hexdigest()

    def visit(self, path: str, name: str) -> None:
        """What is in a directory, in the order of its names' bytes, each directory before what it holds."""
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in found:
            below = f"{name}/{entry.name}" if name else entry.name
            status = entry.stat(follow_symlinks=False)
            if below in _LEFT_OUT:
                self.size += status.st_size
                continue
            self._describe(entry.path, below, status)
            if stat.S_ISDIR(status.st_mode):
                self.visit(entry.path, below)

    def _describe(self, path: str, name: str, status: os.stat_result) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind not in _FLAGS:
            return
        first = self._names.setdefault((status.st_dev, status.st_ino), name)
        linked = first != name
        if not linked:
            self.size += status.st_size
        device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        link = first if linked else os.readlink(path) if kind == stat.S_IFLNK else ""
        is_file = kind == stat.S_IFREG and not linked
        self._put(
            dump(
                {
                    "Name": _text(name),
                    "Mode": stat.S_IMODE(status.st_mode),
                    "UID": status.st_uid,
                    "GID": status.st_gid,
                    "Size": status.st_size if is_file else 0,
                    "Typeflag": ord("1" if linked else _FLAGS[kind]),
                    "Linkname": _text(link),
                    "Devmajor": os.major(status.st_rdev) if device else 0,
                    "Devminor": os.minor(status.st_rdev) if device else 0,
                    "Xattrs": [],
                }
            ).encode()
        )
        if is_file and status.st_size:
            with open(path, "rb", buffering=0) as file:
                while data := file.read(_PIECE):
                    self._put(data)

    def _put(self, data: bytes) -> None:
        # Gathered, because hashing small pieces one by one is slow.
        self._pending += data
        if len(self._pending) >= _PIECE:
            self._digest.update(self._pending)
            self._pending.clear()


def _text(name: str) -> str:
    """Bytes that are no UTF-8 as Go's JSON writes them."""
    return os.fsencode(name).decode("utf-8", "replace")
