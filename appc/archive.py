"""Image archives (ACI) read: every member is checked before anyone sees it (specification: aci.md; contract section 8.1).

An archive holds `manifest` and, below `rootfs/`, the image's files. What could reach outside of a root that it is unpacked in is refused:
absolute names, `..`, members below a link of the archive, hard links to anything but an earlier member, links that climb above the root.
Absolute symlinks are ordinary in images; they mean a path of the image, and nothing here or in the renderer ever follows one.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appc import compression
from appc.archive_writing import WrittenArchive as WrittenArchive
from appc.archive_writing import write_archive as write_archive
from appc.compression import DEFAULT_LIMITS, Limits
from appc.errors import ArchiveError
from appc.image_id import key_of_digest
from appc.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Header, padded, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.tar import Source

MANIFEST = "manifest"
ROOTFS = "rootfs"
_MAX_PATH = 4095
_MAX_COMPONENT = 255
_MAX_DEPTH = 256
# chown(2) takes the largest 32-bit number for "no change".
_MAX_OWNER = 2**32 - 2
# Of an extended attribute (xattr(7)).
_MAX_ATTRIBUTE_NAME = 255
_MAX_ATTRIBUTE = 64 * 1024
_READ = 1024 * 1024
# What a name is before the archive describes it: a directory that a member's path goes through.
_IMPLIED = "implied directory"


class FileSource:
    """An uncompressed archive in a file, read without moving the descriptor's own position."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self.position = 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._descriptor, size, self.position)
        self.position += len(data)
        return data

    def skip(self, size: int) -> int:
        passed = max(0, min(size, self._size - self.position))
        self.position += passed
        return passed


class StreamSource:
    """An archive that comes in pieces; every byte is hashed on its way."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._used = 0
        self._hash = hashlib.sha512()
        self.position = 0

    def _some(self, size: int) -> bytes:
        """At least one byte and at most `size`, nothing at the end."""
        while self._used == len(self._piece):
            self._piece, self._used = next(self._pieces, b""), 0
            if not self._piece:
                return b""
            self._hash.update(self._piece)
        data = self._piece[self._used : self._used + size]
        self._used += len(data)
        self.position += len(data)
        return data

    def read(self, size: int) -> bytes:
        data = self._some(size)
        while data and len(data) < size:
            more = self._some(size - len(data))
            if not more:
                break
            data += more
        return data

    def skip(self, size: int) -> int:
        passed = 0
        while passed < size:
            data = self._some(size - passed)
            if not data:
                break
            passed += len(data)
        return passed

    def digest(self) -> str:
        """Of what has been read so far."""
        return self._hash.hexdigest()


class ArchiveReader:
    """The checked members of an archive, one after the other; iterate once. `manifest` is there after the iteration.

    Names of members are clean paths: `rootfs`, `rootfs/usr/bin/ls`. The manifest's own member, and members outside of rootfs, are
    not returned (rkt ignores the latter, too).
    """

    def __init__(self, source: Source, *, devices: bool = False, limits: Limits = DEFAULT_LIMITS) -> None:
        self.manifest = b""
        self._source = source
        self._devices = devices
        self._limits = limits
        self._kinds: dict[str, str] = {}
        self._names_size = 0
        self._end = 0

    def __iter__(self) -> Iterator[Header]:
        manifest_seen = False
        while (header := read_header(self._source)) is not None:
            self._end = header.offset + padded(header.size)
            member = self._checked(header)
            if member is not None and member.name == MANIFEST:
                manifest_seen = True
                self.manifest = self._read_manifest(member)
            elif member is not None and (member.name == ROOTFS or member.name.startswith(ROOTFS + "/")):
                yield member
            remaining = self._end - self._source.position
            if self._source.skip(remaining) < remaining:
                raise ArchiveError(f'the archive is truncated in member "{header.name}"')
        self._check_end()
        if not manifest_seen:
            raise ArchiveError("the archive has no manifest")

    def content(self, member: Header) -> Iterator[bytes]:
        """The content of the member that the iteration stands at, in pieces of at most 1 MiB."""
        remaining = member.size
        while remaining:
            data = self._source.read(min(remaining, _READ))
            if not data:
                raise ArchiveError(f'the archive is truncated in member "{member.name}"')
            remaining -= len(data)
            yield data

    def _read_manifest(self, member: Header) -> bytes:
        if member.kind != FILE:
            raise ArchiveError(f"the archive's manifest is a {member.kind}, not a file")
        if member.size > self._limits.manifest:
            raise ArchiveError(f"the archive's manifest has {member.size} bytes, {self._limits.manifest} are allowed")
        return b"".join(self.content(member))

    def _check_end(self) -> None:
        while data := self._source.read(_READ):
            if data.strip(b"\0"):
                raise ArchiveError("the archive is damaged: there is something after its end marker")

    def _checked(self, header: Header) -> Header | None:
        """The header with a clean name, None for the archive's own top directory. Raises ArchiveError."""
        path = _clean(header.name, f'member "{_shown(header.name)}"')
        if not path:
            if header.kind == DIRECTORY:
                return None
            raise ArchiveError(f'member "{_shown(header.name)}" has no name')
        self._check_place(path, header.kind)
        if path == ROOTFS and header.kind != DIRECTORY:
            raise ArchiveError(f'member "{path}" is a {header.kind}, not a directory')
        if header.kind in (CHARACTER, BLOCK_DEVICE) and not self._devices:
            raise ArchiveError(f'member "{_shown(path)}" is a {header.kind}, which is not allowed in this image')
        _check_owner_and_attributes(path, header)
        link = header.link
        if header.kind == HARD_LINK:
            link = self._checked_hard_link(path, link)
        elif header.kind == SYMLINK:
            _check_symlink(path, link)
        return header._replace(name=path, link=link)

    def _check_place(self, path: str, kind: str) -> None:
        known = self._kinds.get(path)
        if known is not None and not (known == _IMPLIED and kind == DIRECTORY):
            what = "is there twice" if known != _IMPLIED else "has members below it but is no directory"
            raise ArchiveError(f'member "{_shown(path)}" {what}')
        parent = os.path.dirname(path)
        while parent:
            above = self._kinds.get(parent)
            if above in (DIRECTORY, _IMPLIED):
                break
            if above is not None:
                raise ArchiveError(f'member "{_shown(path)}" lies below "{_shown(parent)}", which is a {above} of the archive')
            self._remember(parent, _IMPLIED)
            parent = os.path.dirname(parent)
        self._remember(path, kind)

    def _remember(self, path: str, kind: str) -> None:
        """Directories that no member describes count too: one name of 250 components would else make as many."""
        if path not in self._kinds:
            self._names_size += len(path)
        self._kinds[path] = kind
        if len(self._kinds) > self._limits.members:
            raise ArchiveError(f"the archive has more than {self._limits.members} members")
        if self._names_size > self._limits.names:
            raise ArchiveError(f"the names of the archive's members have more than {self._limits.names} characters")

    def _checked_hard_link(self, path: str, link: str) -> str:
        target = _clean(link, f'member "{_shown(path)}" is a hard link to "{_shown(link)}": its target')
        kind = self._kinds.get(target)
        if not target.startswith(ROOTFS + "/") or not path.startswith(ROOTFS + "/"):
            raise ArchiveError(f'member "{_shown(path)}" is a hard link to "{_shown(link)}", which is outside of the image')
        if target == path or kind not in (FILE, SYMLINK, FIFO, HARD_LINK, CHARACTER, BLOCK_DEVICE):
            raise ArchiveError(f'member "{_shown(path)}" is a hard link to "{_shown(link)}", which is no earlier file of the archive')
        return target


def _clean(name: str, what: str) -> str:
    """A relative path without empty components, dots and slashes at the end."""
    if name.startswith("/"):
        raise ArchiveError(f"{what} has an absolute name")
    components = [component for component in name.split("/") if component not in ("", ".")]
    if ".." in components:
        raise ArchiveError(f'{what} has ".." in its name')
    if "\0" in name:
        raise ArchiveError(f"{what} has a NUL character in its name")
    path = "/".join(components)
    if len(components) > _MAX_DEPTH:
        raise ArchiveError(f"{what} lies deeper than {_MAX_DEPTH} directories")
    if len(os.fsencode(path)) > _MAX_PATH or any(len(os.fsencode(component)) > _MAX_COMPONENT for component in components):
        raise ArchiveError(f"{what} has a name that is too long")
    return path


def _check_owner_and_attributes(path: str, header: Header) -> None:
    """What no file can have: found here, it is the archive's mistake; found while it is unpacked, half an image would lie in the store."""
    if header.uid > _MAX_OWNER or header.gid > _MAX_OWNER:
        raise ArchiveError(f'member "{_shown(path)}" has an owner that is out of range: {header.uid}:{header.gid}')
    for name, value in header.xattrs.items():
        namespace, _, rest = name.partition(".")
        if not namespace or not rest or "\0" in name or len(os.fsencode(name)) > _MAX_ATTRIBUTE_NAME or len(value) > _MAX_ATTRIBUTE:
            raise ArchiveError(f'member "{_shown(path)}" has the extended attribute "{_shown(name)}", which no file can have')


def _check_symlink(path: str, target: str) -> None:
    if not target or "\0" in target or len(os.fsencode(target)) > _MAX_PATH:
        raise ArchiveError(f'member "{_shown(path)}" is a symlink without a usable target')
    if target.startswith("/"):
        return
    # Above the image's root a chroot would stop; someone who resolves the link otherwise would not.
    depth = path.count("/") - 1
    for component in target.split("/"):
        if component == "..":
            depth -= 1
        elif component not in ("", "."):
            depth += 1
        if depth < 0:
            raise ArchiveError(f'member "{_shown(path)}" is a symlink to "{_shown(target)}", which leaves the image')


def _shown(name: str) -> str:
    """A name for a message: printable, on one line, of bounded length."""
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
    printable = "".join(character if character.isprintable() else repr(character)[1:-1] for character in printable)
    return printable if len(printable) <= 200 else printable[:100] + "..." + printable[-97:]


class OpenArchive(ArchiveReader):
    """An archive file, packed or not. After the iteration `image_id()` is that of its content."""

    def __init__(self, descriptor: int, *, devices: bool, limits: Limits) -> None:
        self._stream = StreamSource(compression.chunks(descriptor, limits))
        super().__init__(self._stream, devices=devices, limits=limits)

    def image_id(self) -> str:
        return key_of_digest(self._stream.digest())


@contextmanager
def open_archive(path: str, *, devices: bool = False, limits: Limits = DEFAULT_LIMITS) -> Iterator[OpenArchive]:
    """Opens an image file for reading front to back. `devices` allows device nodes. Raises ArchiveError, naming the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from None
    try:
        yield OpenArchive(descriptor, devices=devices, limits=limits)
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error.message}", hint=error.hint) from None
    finally:
        os.close(descriptor)
