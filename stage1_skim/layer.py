"""Where changed files of an image go: to a layer to be mounted over the image's tree, which is never written, or to the root itself."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPY = 1 << 24  # bytes at once
_OVERLAYS_OWN = "trusted.overlay."


class Layer:
    """Paths are absolute in the image, free of links. Without a `directory` (an empty one), `root` is changed in place.

    A file or a directory of the layer hides the one of the tree with all its attributes, so it has the same ones. Raises OSError.
    """

    def __init__(self, root: str, directory: str | None) -> None:
        self.root = root
        self._directory = directory
        self._copies: dict[tuple[int, int], str] = {}  # by device and inode: hard links stay hard links
        self._parents: dict[str, os.stat_result] = {}

    def finish(self) -> None:
        """When all is written: directories as the tree has them, innermost first."""
        for path in sorted(self._parents, reverse=True):
            _set_attributes(self._host(path), self._parents[path], _extended(self.root + path))

    @contextmanager
    def changing(self, path: str) -> Iterator[BinaryIO | None]:
        """The file open for reading and writing; None if it has been changed under another of its names."""
        source = self.root + path
        status, extended = os.stat(source), _extended(source)
        target = self._host(path)
        if self._directory is not None:
            self._make_parents(path)
            first = self._copies.setdefault((status.st_dev, status.st_ino), target)
            if first != target:
                os.link(first, target)
                yield None
                return
            _copy(source, target)
        with open(target, "r+b", buffering=0) as file:
            yield file
        _set_attributes(target, status, extended)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file that is new, whatever was there: it may be a link, or have other names."""
        target = self._make_way(path)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)

    def clear(self, path: str) -> None:
        """Whatever the root has at `path` will not be written through, nor mistaken for ours."""
        target = self.root + path
        if self._directory is None and os.path.islink(target):
            os.unlink(target)
        elif self._directory is None and os.path.isdir(target):
            import shutil

            shutil.rmtree(target)

    def link(self, path: str, target: str) -> None:
        """A symbolic link to `target`, absolute in the image, written so that it leads there wherever the root is."""
        os.symlink(os.path.relpath(target, os.path.dirname(path)), self._make_way(path))

    def _host(self, path: str) -> str:
        return (self.root if self._directory is None else self._directory) + path

    def _make_way(self, path: str) -> str:
        target = self._host(path)
        if self._directory is not None:
            self._make_parents(path)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        try:
            os.unlink(target)
        except FileNotFoundError:
            pass
        return target

    def _make_parents(self, path: str) -> None:
        parent = os.path.dirname(path)
        if parent in self._parents or not os.path.isdir(self.root + parent):
            return
        if parent != "/":
            self._make_parents(parent)
            os.mkdir(self._host(parent), 0o700)
        self._parents[parent] = os.stat(self.root + parent)


def _copy(source: str, target: str) -> None:
    with open(source, "rb", buffering=0) as given, open(target, "xb", buffering=0) as out:
        while os.sendfile(out.fileno(), given.fileno(), None, _COPY):
            pass


def _extended(path: str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith(_OVERLAYS_OWN)}


def _set_attributes(path: str, status: os.stat_result, extended: dict[str, bytes]) -> None:
    """Writing to a file takes its capabilities away, and a new owner its setuid bit: hence all of them, in this order."""
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    for name, value in extended.items():
        os.setxattr(path, name, value)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
