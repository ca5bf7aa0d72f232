"""Image archives written: the same tree and manifest give the same bytes, whenever and wherever that happens."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from appc.errors import ArchiveError
from appc.image import image_manifest_json
from appc.image_id import key_of_digest
from appc.tar import BLOCK, BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Header, header_blocks, padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.image import ImageManifest

_READ = 1024 * 1024
_KEPT_XATTRS = ("security.capability", "user.")


class WrittenArchive(NamedTuple):
    """`image_id` is the key of the uncompressed archive; `uncompressed` its size in bytes."""

    image_id: str
    uncompressed: int
    members: int


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...
    def close(self) -> None: ...


def write_archive(
    tree: str,
    manifest: ImageManifest,
    out: str | IO[bytes],
    *,
    compression: str = "gzip",
    latest_mtime: int | None = None,
    owner: tuple[int, int] | None = None,
) -> WrittenArchive:
    """Writes the image of `manifest` with the files of the directory `tree` as its rootfs.

    Members are sorted, each directory before what it holds, the manifest last; owners are numbers (`owner` instead of the files' own);
    times are whole seconds, none later than `latest_mtime` (seconds since 1970), which is also the manifest's (0 if absent); hard links
    within the tree stay hard links; sockets are left out. `compression` is gzip or none. Raises ArchiveError, ManifestError, OSError.
    """
    text = image_manifest_json(manifest).encode()
    if isinstance(out, str):
        with open(out, "wb") as file:
            return write_archive(tree, manifest, file, compression=compression, latest_mtime=latest_mtime, owner=owner)
    sink = _open_sink(out, compression)
    writer = _Writer(sink.write, latest_mtime, owner)
    try:
        writer.add_tree(tree)
        writer.add_manifest(text)
    finally:
        if sink is not out:
            sink.close()
    return WrittenArchive(image_id=key_of_digest(writer.digest.hexdigest()), uncompressed=writer.size, members=writer.members)


def _open_sink(out: IO[bytes], compression: str) -> _Sink:
    if compression == "none":
        return out
    if compression != "gzip":
        raise ArchiveError(f'images cannot be written with compression "{compression}" (gzip or none)')
    from appc.gzip_blocks import GzipBlocks

    return GzipBlocks(out)


class _Writer:
    def __init__(self, write: Callable[[bytes], int], latest_mtime: int | None, owner: tuple[int, int] | None) -> None:
        self._write = write
        self._latest_mtime = latest_mtime
        self._owner = owner
        self._linked: dict[tuple[int, int], str] = {}
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.digest = hashlib.sha512()
        self.size = 0
        self.members = 0

    def add_tree(self, tree: str) -> None:
        try:
            status = os.stat(tree)
        except OSError as error:
            raise ArchiveError(f"{tree}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise ArchiveError(f"{tree}: is no directory")
        self._add(tree, "rootfs", status)
        self._add_directory(tree, "rootfs")

    def add_manifest(self, text: bytes) -> None:
        uid, gid = self._owner or (0, 0)
        self._put(
            header_blocks(Header(name="manifest", kind=FILE, mode=0o644, uid=uid, gid=gid, size=len(text), mtime=self._latest_mtime or 0))
        )
        self._put(text + bytes(padded(len(text)) - len(text)))
        self._put(bytes(2 * BLOCK))
        self._flush()

    def _add_directory(self, path: str, name: str) -> None:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in found:
            status = entry.stat(follow_symlinks=False)
            below = f"{name}/{entry.name}"
            self._add(entry.path, below, status)
            if stat.S_ISDIR(status.st_mode):
                self._add_directory(entry.path, below)

    def _add(self, path: str, name: str, status: os.stat_result) -> None:
        if stat.S_ISSOCK(status.st_mode):
            return
        kind, link = _kind(status.st_mode), ""
        inode = (status.st_dev, status.st_ino)
        if kind != DIRECTORY and status.st_nlink > 1:
            first = self._linked.setdefault(inode, name)
            if first != name:
                kind, link = HARD_LINK, first
        if kind == SYMLINK:
            link = os.readlink(path)
        device = kind in (CHARACTER, BLOCK_DEVICE)
        mtime = int(status.st_mtime_ns // 10**9)
        self._put(
            header_blocks(
                Header(
                    name=name,
                    kind=kind,
                    mode=stat.S_IMODE(status.st_mode),
                    uid=self._owner[0] if self._owner else status.st_uid,
                    gid=self._owner[1] if self._owner else status.st_gid,
                    size=status.st_size if kind == FILE else 0,
                    mtime=mtime if self._latest_mtime is None else min(mtime, self._latest_mtime),
                    link=link,
                    major=os.major(status.st_rdev) if device else 0,
                    minor=os.minor(status.st_rdev) if device else 0,
                    xattrs=_xattrs(path) if kind == FILE else {},
                )
            )
        )
        self.members += 1
        if kind == FILE:
            self._put_content(path, status.st_size)

    def _put_content(self, path: str, size: int) -> None:
        remaining = size
        with open(path, "rb", buffering=0) as file:
            while remaining:
                data = file.read(min(remaining, _READ))
                if not data:
                    break
                remaining -= len(data)
                self._put(data)
            if remaining or file.read(1):
                raise ArchiveError(f"{path}: changed while it was read")
        self._put(bytes(padded(size) - size))

    def _put(self, data: bytes) -> None:
        # Small pieces are gathered: the hash lets other threads run only for large ones.
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _READ:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending, self._pending_size = [], 0
        self.size += len(data)
        self._write(data)
        self.digest.update(data)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFREG: FILE,
        stat.S_IFDIR: DIRECTORY,
        stat.S_IFLNK: SYMLINK,
        stat.S_IFIFO: FIFO,
        stat.S_IFCHR: CHARACTER,
        stat.S_IFBLK: BLOCK_DEVICE,
    }
    return kinds[stat.S_IFMT(mode)]


def _xattrs(path: str) -> dict[str, bytes]:
    """The extended attributes that a renderer restores (contract section 2.3)."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        # No such attributes on this file system.
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if name.startswith(_KEPT_XATTRS)}
