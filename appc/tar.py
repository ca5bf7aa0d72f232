"""The tar format, as far as images use it: ustar, pax and GNU headers read, ustar and pax written.

The standard library's tarfile is lenient where an image must be refused, and slow to import. Nothing here touches the file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from appc.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK = 512
# A header that describes the next one (long names, attributes) may not be larger than this.
MAX_EXTENSION = 1 << 20
XATTR_RECORD = "SCHILY.xattr."
_LATEST = 2**40  # seconds: a time that no file system has, and nanoseconds that utimensat(2) still takes
_MAJORS, _MINORS = 1 << 12, 1 << 20  # Linux' device numbers

FILE = "file"
HARD_LINK = "hard link"
SYMLINK = "symlink"
CHARACTER = "character device"
BLOCK_DEVICE = "block device"
DIRECTORY = "directory"
FIFO = "fifo"

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
}
_FLAGS = {FILE: b"0", HARD_LINK: b"1", SYMLINK: b"2", CHARACTER: b"3", BLOCK_DEVICE: b"4", DIRECTORY: b"5", FIFO: b"6"}
_NO_XATTRS: Mapping[str, bytes] = {}


class Source(Protocol):
    """An archive's bytes, front to back."""

    position: int

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        ...

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; returns how many there were."""
        ...


class Header(NamedTuple):
    """A member as it stands in the archive. `size` is that of the content that follows at `offset`, in bytes; mtime in seconds."""

    name: str
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: float = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = _NO_XATTRS
    offset: int = 0


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def read_header(source: Source) -> Header | None:
    """The next member's header, None at the end marker. Raises ArchiveError for what is no header."""
    long_name, long_link = None, None
    records: dict[str, bytes] = {}
    while True:
        block = source.read(BLOCK)
        if len(block) < BLOCK:
            raise ArchiveError("the archive is truncated: its end marker is missing")
        if not block.strip(b"\0"):
            if long_name is not None or long_link is not None or records:
                raise ArchiveError("the archive is damaged: it ends after a header that describes a member")
            return None
        _check_sum(block, source.position - BLOCK)
        flag = block[156:157]
        if flag == b"x":
            records = _pax_records(_extension(source, block))
        elif flag == b"g":
            _check_global(_pax_records(_extension(source, block)))
        elif flag == b"L":
            long_name = _extension(source, block).split(b"\0", 1)[0]
        elif flag == b"K":
            long_link = _extension(source, block).split(b"\0", 1)[0]
        else:
            return _member(block, records, long_name, long_link, source.position)


def _check_sum(block: bytes, position: int) -> None:
    # Both sums over the header with its own field blank; some old writers summed signed bytes.
    try:
        written = _number(block[148:156])
    except ValueError:
        written = -1
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if written != unsigned:
        signed = unsigned - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127)
        if written != signed:
            raise ArchiveError(f"the archive is damaged: no tar header at byte {position}")


def _extension(source: Source, block: bytes) -> bytes:
    size = _field(block[124:136], "size")
    if size > MAX_EXTENSION:
        raise ArchiveError(f"the archive has an extended header of {size} bytes, {MAX_EXTENSION} are allowed")
    data = source.read(padded(size))
    if len(data) < padded(size):
        raise ArchiveError("the archive is truncated in an extended header")
    return data[:size]


def _pax_records(data: bytes) -> dict[str, bytes]:
    records = {}
    position = 0
    while position < len(data):
        length_text, blank, _ = data[position : position + 20].partition(b" ")
        if not blank or not length_text.isdigit():
            raise ArchiveError("the archive is damaged: an extended header's record has no length")
        end = position + int(length_text)
        key, equals, value = data[position + len(length_text) + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise ArchiveError("the archive is damaged: an extended header's record is malformed")
        records[key.decode("utf-8", "surrogateescape")] = value[:-1]
        position = end
    return records


def _check_global(records: Mapping[str, bytes]) -> None:
    """Global headers describe no member here; one that would change every member's place is a trick."""
    for key in records:
        if key in ("path", "linkpath", "size") or key.startswith("GNU.sparse"):
            raise ArchiveError(f"the archive has a global header that sets {key}, which is not supported")


def _member(block: bytes, records: Mapping[str, bytes], long_name: bytes | None, long_link: bytes | None, offset: int) -> Header:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345] != 0:
        name = _text(block[345:500]) + "/" + name
    link = _text(block[157:257])
    if long_name is not None:
        name = long_name.decode("utf-8", "surrogateescape")
    if long_link is not None:
        link = long_link.decode("utf-8", "surrogateescape")
    if "path" in records:
        name = records["path"].decode("utf-8", "surrogateescape")
    if "linkpath" in records:
        link = records["linkpath"].decode("utf-8", "surrogateescape")
    flag = block[156:157]
    kind = _KINDS.get(flag)
    if kind is None or any(key.startswith("GNU.sparse") for key in records):
        what = "is a sparse file" if flag == b"S" or kind is not None else f"has the unknown type {flag!r}"
        raise ArchiveError(f'member "{name}" {what}, which is not supported')
    if flag == b"\0" and name.endswith("/"):
        kind = DIRECTORY
    size = _decimal(records, "size") if "size" in records else _field(block[124:136], "size")
    device = kind in (CHARACTER, BLOCK_DEVICE)
    return Header(
        name=name,
        kind=kind,
        mode=_field(block[100:108], "mode") & 0o7777,
        uid=_decimal(records, "uid") if "uid" in records else _field(block[108:116], "uid"),
        gid=_decimal(records, "gid") if "gid" in records else _field(block[116:124], "gid"),
        # Only files have content, whatever the field says (as in Go).
        size=size if kind == FILE else 0,
        mtime=_seconds(records["mtime"]) if "mtime" in records else _field(block[136:148], "mtime", limit=_LATEST, signed=True),
        link=link,
        major=_field(block[329:337], "device number", limit=_MAJORS) if device else 0,
        minor=_field(block[337:345], "device number", limit=_MINORS) if device else 0,
        xattrs={key[len(XATTR_RECORD) :]: value for key, value in records.items() if key.startswith(XATTR_RECORD)}
        if records
        else _NO_XATTRS,
        offset=offset,
    )


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number - (256 ** (len(field) - 1)) if field[0] == 0xFF else number
    text = field.split(b"\0", 1)[0].strip(b" ")
    if text.strip(b"01234567"):
        raise ValueError
    return int(text, 8) if text else 0


def _field(field: bytes, what: str, *, limit: int = 2**63, signed: bool = False) -> int:
    try:
        number = _number(field)
    except ValueError:
        raise ArchiveError(f"the archive is damaged: a header's {what} is no number") from None
    if number >= limit or number < (-limit if signed else 0):
        raise ArchiveError(f"the archive is damaged: a header's {what} is out of range")
    return number


def _decimal(records: Mapping[str, bytes], key: str) -> int:
    value = records[key]
    if not value.isdigit() or len(value) > 19:
        raise ArchiveError(f"the archive is damaged: an extended header's {key} is no number")
    return int(value)


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value.decode("ascii"))
    except ValueError:
        seconds = float("inf")
    if not abs(seconds) < _LATEST:
        raise ArchiveError("the archive is damaged: an extended header's mtime is no number")
    return seconds


def header_blocks(header: Header) -> bytes:
    """The blocks that stand before a member's content: ustar where that can say it, with a pax header before it where not."""
    name = header.name.encode("utf-8", "surrogateescape")
    link = header.link.encode("utf-8", "surrogateescape")
    records: list[tuple[str, bytes]] = []
    prefix, short = _split_name(name)
    if short is None:
        records.append(("path", name))
        short = name[:100]
    if len(link) > 100:
        records.append(("linkpath", link))
    for key, number, limit in (("size", header.size, 8**11), ("uid", header.uid, 8**7), ("gid", header.gid, 8**7)):
        if number >= limit:
            records.append((key, str(number).encode()))
    records += [(XATTR_RECORD + key, value) for key, value in sorted(header.xattrs.items())]
    block = _ustar_block(header, prefix, short, link[:100])
    if not records:
        return block
    data = b"".join(_pax_record(key.encode("utf-8", "surrogateescape"), value) for key, value in records)
    pax = Header(name="PaxHeaders/" + header.name[-80:].replace("/", "_"), kind="x", mode=0o644, size=len(data))
    extension = _ustar_block(pax, b"", pax.name.encode("utf-8", "surrogateescape")[:100], b"")
    return extension + data + bytes(padded(len(data)) - len(data)) + block


def _split_name(name: bytes) -> tuple[bytes, bytes | None]:
    if len(name) <= 100:
        return b"", name
    # The field after the last possible slash must be 1 to 100 bytes, the one before it at most 155.
    cut = name.rfind(b"/", 0, 156)
    if cut > 0 and 0 < len(name) - cut - 1 <= 100:
        return name[:cut], name[cut + 1 :]
    return b"", None


def _ustar_block(header: Header, prefix: bytes, name: bytes, link: bytes) -> bytes:
    def octal(number: int, width: int) -> bytes:
        return b"%0*o\0" % (width - 1, number % 8 ** (width - 1))

    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = octal(header.mode, 8)
    block[108:116] = octal(header.uid if header.uid < 8**7 else 0, 8)
    block[116:124] = octal(header.gid if header.gid < 8**7 else 0, 8)
    block[124:136] = octal(header.size if header.size < 8**11 else 0, 12)
    block[136:148] = octal(max(0, int(header.mtime)), 12)
    block[148:156] = b" " * 8
    block[156:157] = _FLAGS.get(header.kind) or header.kind.encode()
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:337] = octal(header.major, 8)
    block[337:345] = octal(header.minor, 8)
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """A record begins with its own length, digits included."""
    rest = len(key) + len(value) + 3
    length = rest
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
