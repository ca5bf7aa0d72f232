"""What the dynamic loader reads in an ELF file: interpreter, needed libraries, search paths (elf(5), ld.so(8))."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment, NoteSegment

from appc.errors import UserError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_MAGIC = b"\x7fELF"
_DLOPEN_NOTE = 0x407C0C0A


@dataclass(frozen=True, kw_only=True)
class ElfFile:
    """An ELF file as the loader sees it. `machine` names class and architecture; a static program needs nothing and has no interpreter.

    `suggested` are libraries that the file says it may open while it runs (UAPI group, "ELF dlopen metadata"); the first of alternatives.
    """

    machine: str
    interpreter: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    suggested: tuple[str, ...] = ()

    @property
    def dynamic(self) -> bool:
        """Whether a loader has a part in running it."""
        return self.interpreter is not None or bool(self.needed)


def is_elf(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == _MAGIC


def read_elf(path: str | os.PathLike[str]) -> ElfFile | None:
    """Reads headers and dynamic section. None for what is no ELF file; raises UserError for a damaged one."""
    with open(path, "rb") as file:
        if file.read(4) != _MAGIC:
            return None
        file.seek(0)
        try:
            return _read(ELFFile(file))
        except (ELFError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise UserError(f"{path} is a damaged ELF file: {error or type(error).__name__}") from None


def _read(elf: ELFFile) -> ElfFile:
    interpreter: str | None = None
    needed: list[str] = []
    rpath: list[str] = []
    runpath: list[str] = []
    suggested: list[str] = []
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = str(segment.get_interp_name())
        elif isinstance(segment, NoteSegment):
            suggested += _dlopen_notes(segment)
        elif isinstance(segment, DynamicSegment):
            for tag in cast("Iterable[Any]", segment.iter_tags()):  # its attributes are set as it is read
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(str(tag.needed))
                elif tag.entry.d_tag == "DT_RPATH":
                    rpath = str(tag.rpath).split(":")
                elif tag.entry.d_tag == "DT_RUNPATH":
                    runpath = str(tag.runpath).split(":")
    return ElfFile(
        machine=f"{elf['e_ident']['EI_CLASS']}/{elf['e_machine']}",
        interpreter=interpreter,
        needed=tuple(needed),
        rpath=tuple(rpath),
        runpath=tuple(runpath),
        suggested=tuple(dict.fromkeys(suggested)),
    )


def _dlopen_notes(segment: NoteSegment) -> list[str]:
    """Names from notes of owner FDO: JSON arrays of objects with `soname`. A note that is something else says nothing to us."""
    names = []
    for note in segment.iter_notes():
        if note["n_name"] != "FDO" or note["n_type"] not in (_DLOPEN_NOTE, hex(_DLOPEN_NOTE)):
            continue
        description = note["n_desc"]
        text = description.encode("latin-1") if isinstance(description, str) else bytes(description)
        try:
            names += [str(feature["soname"][0]) for feature in json.loads(text.rstrip(b"\0"))]
        except (ValueError, LookupError, TypeError):
            continue
    return names
