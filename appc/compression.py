"""What an archive is packed with, told by its first bytes (contract section 8.1), and unpacked in bounded memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from appc.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP = "gzip"
BZIP2 = "bzip2"
XZ = "xz"
PLAIN = "tar"

_MAGICS = ((GZIP, b"\x1f\x8b"), (BZIP2, b"BZh"), (XZ, b"\xfd7zXZ\x00"))
_INPUT = 256 * 1024
_CHUNK = 1024 * 1024
# xz archives say how much memory they want.
_XZ_MEMORY = 512 * 1024 * 1024
# Below this size the ratio says nothing: small archives of much alike are normal.
_RATIO_FLOOR = 256 * 1024 * 1024


class Limits(NamedTuple):
    """What an archive may grow to, in bytes: `size` uncompressed, `ratio` of that to the compressed size (looked at above 256 MiB).

    `members` counts the directories that their names imply, too; `names` the characters of all names, which are held in memory.
    """

    size: int = 64 * 1024**3
    ratio: int = 300
    manifest: int = 4 * 1024 * 1024
    members: int = 2_000_000
    names: int = 256 * 1024 * 1024


DEFAULT_LIMITS = Limits()


class Decompressor(Protocol):
    """What the decompressors of bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class _ZlibGzip:
    """The standard library's gzip reading in the manner of the others, for hosts without isal."""

    def __init__(self) -> None:
        import zlib

        self._stream = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        out = self._stream.decompress(self._stream.unconsumed_tail + data, max(max_length, 0))
        self.needs_input = not self._stream.unconsumed_tail and len(out) < max_length
        return out


def detect(head: bytes) -> str:
    """The kind of an archive by its first 512 bytes. Raises ArchiveError in rkt's words."""
    for kind, magic in _MAGICS:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return PLAIN
    raise ArchiveError("error: unknown image filetype", hint="an image is a tar archive, plain or packed by gzip, bzip2 or xz")


def chunks(descriptor: int, limits: Limits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """The uncompressed archive in pieces of at most 1 MiB. Raises ArchiveError for a damaged stream, or one that outgrows the limits."""
    kind = detect(os.pread(descriptor, 512, 0))
    compressed = os.fstat(descriptor).st_size
    by_ratio = max(_RATIO_FLOOR, limits.ratio * compressed)
    total = 0
    for chunk in _plain(descriptor) if kind == PLAIN else _unpacked(descriptor, kind):
        total += len(chunk)
        if total > limits.size:
            raise ArchiveError(f"the archive is larger than allowed: more than {limits.size} bytes uncompressed")
        if total > by_ratio:
            raise ArchiveError(f"the archive looks like a decompression bomb: {compressed} bytes become more than {by_ratio}")
        yield chunk


def _plain(descriptor: int) -> Iterator[bytes]:
    position = 0
    while chunk := os.pread(descriptor, _CHUNK, position):
        position += len(chunk)
        yield chunk


def _unpacked(descriptor: int, kind: str) -> Iterator[bytes]:
    errors = _stream_errors(kind)
    position, data = 0, b""
    decompressor = _decompressor(kind)
    while True:
        if not data and (decompressor.needs_input or decompressor.eof):
            data = os.pread(descriptor, _INPUT, position)
            position += len(data)
            if not data:
                break
        if decompressor.eof:
            # Another stream may follow the first; what else may stand there is xz's padding.
            if kind == XZ and not data.strip(b"\0"):
                data = b""
                continue
            decompressor = _decompressor(kind)
        try:
            out = decompressor.decompress(data, max_length=_CHUNK)
        except errors as error:
            raise ArchiveError(f"the archive's {kind} stream is damaged: {error}") from None
        data = decompressor.unused_data if decompressor.eof else b""
        if out:
            yield out
    if not decompressor.eof:
        raise ArchiveError(f"the archive is truncated: its {kind} stream has no end")


def _decompressor(kind: str) -> Decompressor:
    if kind == BZIP2:
        import bz2

        return bz2.BZ2Decompressor()
    if kind == XZ:
        import lzma

        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    try:
        from isal import igzip_lib
    except ImportError:
        return _ZlibGzip()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _stream_errors(kind: str) -> tuple[type[Exception], ...]:
    """What the decompressors raise for damaged input."""
    if kind == BZIP2:
        return (OSError, ValueError, EOFError)
    if kind == XZ:
        import lzma

        return (lzma.LZMAError, EOFError)
    import zlib

    try:
        from isal import igzip_lib
    except ImportError:
        return (zlib.error, EOFError)
    return (zlib.error, cast("type[Exception]", igzip_lib.error), EOFError)
