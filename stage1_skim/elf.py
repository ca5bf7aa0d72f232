"""The few fields of an ELF file that say who loads it and where its libraries are (elf(5)), read by struct alone.

64-bit x86 only: what stage1_skim can relocate, and what its hosts run.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

_IDENTITY = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_X86_64 = 62
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 5, 14, 15, 29
_HEADER = struct.Struct("<HHIQQQIHHH")  # from e_type to e_phnum
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<QQ")
_MOST_BYTES = 1 << 20  # of program headers or of a dynamic section; more is damage
_LONGEST_STRING = 4096


class Text(NamedTuple):
    """A string in the file: `value` without its NUL at the byte offset `at`; `room` bytes can be written there, NUL included."""

    at: int
    room: int
    value: bytes


class Elf(NamedTuple):
    """`search` are DT_RPATH and DT_RUNPATH, colons and all. A static program has no interpreter, a library usually none."""

    interpreter: Text | None
    soname: bytes | None
    search: tuple[Text, ...]


def read_elf(descriptor: int) -> Elf | None:
    """None for anything but an x86-64 ELF file whose headers hold together: such a file is nobody's to load."""
    start = os.pread(descriptor, 64, 0)
    if not start.startswith(_IDENTITY) or len(start) < 64:
        return None
    try:
        return _read(descriptor, start)
    except (struct.error, ValueError, OverflowError, OSError):
        return None


def _read(descriptor: int, start: bytes) -> Elf | None:
    _, machine, _, _, table, _, _, _, size, count = _HEADER.unpack_from(start, 16)
    if machine != _X86_64 or size != _SEGMENT.size:
        return None
    loads: list[tuple[int, int, int]] = []
    interpreter = None
    dynamic = b""
    for kind, _, offset, address, _, length, _, _ in _SEGMENT.iter_unpack(os.pread(descriptor, size * count, table)):
        if kind == _LOAD:
            loads.append((address, offset, length))
        elif kind == _INTERPRETER and 1 < length <= _LONGEST_STRING:
            interpreter = Text(at=offset, room=length, value=os.pread(descriptor, length, offset).split(b"\0", 1)[0])
        elif kind == _DYNAMIC and length <= _MOST_BYTES:
            dynamic = os.pread(descriptor, length - length % _ENTRY.size, offset)
    soname, search = _dynamic(descriptor, dynamic, loads)
    return Elf(interpreter=interpreter, soname=soname, search=search)


def _dynamic(descriptor: int, section: bytes, loads: list[tuple[int, int, int]]) -> tuple[bytes | None, tuple[Text, ...]]:
    tags: dict[int, int] = {}
    for tag, value in _ENTRY.iter_unpack(section):
        if tag == 0:
            break
        tags.setdefault(tag, value)
    strings = _offset(tags.get(_DT_STRTAB), loads)
    if strings is None:
        return None, ()
    texts = {tag: _text(descriptor, strings + tags[tag]) for tag in (_DT_SONAME, _DT_RPATH, _DT_RUNPATH) if tag in tags}
    soname = texts.pop(_DT_SONAME, None)
    return soname.value if soname else None, tuple(texts.values())


def _offset(address: int | None, loads: list[tuple[int, int, int]]) -> int | None:
    """Where in the file the byte is that is loaded at `address`."""
    for begin, offset, length in loads:
        if address is not None and begin <= address < begin + length:
            return offset + address - begin
    return None


def _text(descriptor: int, at: int) -> Text:
    value = os.pread(descriptor, _LONGEST_STRING, at).split(b"\0", 1)[0]
    return Text(at=at, room=len(value) + 1, value=value)
