"""The closure of shared libraries: which files the dynamic loader would open for a set of programs, looked up in the source's root.

The search is ld.so(8)'s: DT_RPATH of the object and of those that loaded it (unless the object has DT_RUNPATH), DT_RUNPATH of the object,
then the directories of the loader's configuration. LD_LIBRARY_PATH and the host's cache have no part in it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import posixpath
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aci_build import inroot
from aci_build.elf import ElfFile, read_elf
from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEFAULT_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
DIGEST_LENGTH = 32  # hex digits


@dataclass(frozen=True, kw_only=True)
class Library:
    """A file of the library directory: the name that the loader asks for, its canonical path in the source, its content's sha256."""

    name: str
    origin: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Closure:
    """All libraries of an image, by name, the loader among them. `loader` is its name, None if no program needs one."""

    libraries: dict[str, Library]
    loader: str | None
    suggested: dict[str, str]

    @property
    def digest(self) -> str:
        """Names the library directory: a function of the names and of the unpatched contents, since the patched ones contain it."""
        lines = "".join(f"{library.name} {library.sha256}\n" for _, library in sorted(self.libraries.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:DIGEST_LENGTH]


@dataclass(frozen=True, kw_only=True)
class _Object:
    """Something that the loader has opened: what it is called in messages, where it is, and the RPATHs of those that loaded it."""

    name: str
    origin: str
    elf: ElfFile
    inherited: tuple[str, ...]


class _Search:
    """One walk over the programs of an image."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.loader: tuple[str, str] | None = None  # name and canonical path
        self.machine: str | None = None
        self.found: dict[str, str] = {}
        self.first_user: dict[str, str] = {}
        self.queue: deque[_Object] = deque()
        self.suggested: dict[str, str] = {}

    def add_program(self, name: str, origin: str, elf: ElfFile) -> None:
        if self.machine not in (None, elf.machine):
            raise UserError(f"{name} is for {elf.machine}, other programs of the image for {self.machine}")
        self.machine = elf.machine
        if elf.interpreter is not None:
            path = inroot.find_file(self.root, elf.interpreter)
            if path is None:
                raise UserError(
                    f"{name} needs the loader {elf.interpreter}, which the source does not have", hint="add the package that has it, libc6"
                )
            loader = (posixpath.basename(elf.interpreter), path)
            if self.loader not in (None, loader):
                raise UserError(f"{name} needs the loader {loader[0]}, other programs of the image {self.loader[0] if self.loader else ''}")
            self.loader = loader
            self._take(*loader, user=name)
        self.queue.append(_Object(name=name, origin=origin, elf=elf, inherited=()))

    def add_extra(self, library: str) -> None:
        path = self._in_directories(library, self._system_directories())
        if path is None:
            raise UserError(f"library {library}, which the recipe names in libraries.extra, is not in the source")
        self._open(library, path, user="libraries.extra", inherited=())

    def walk(self) -> None:
        while self.queue:
            current = self.queue.popleft()
            own = _expand(current.elf.rpath, current.origin) if not current.elf.runpath else ()
            inherited = (*own, *current.inherited)
            for library in current.elf.needed:
                if "/" in library:
                    raise UserError(f"{current.name} names the library {library} by its path and would find it outside the image")
                path = self._find(library, current, inherited)
                if path is None:
                    hint = "add the package that has it to the recipe"
                    raise UserError(f"{current.name} needs the library {library}, which is not in the source", hint=hint)
                self._open(library, path, user=current.name, inherited=inherited)
            for library in current.elf.suggested:
                self.suggested.setdefault(library, current.name)

    def _find(self, library: str, user: _Object, inherited: tuple[str, ...]) -> str | None:
        if self.loader is not None and library == self.loader[0]:
            return self.loader[1]
        before = () if user.elf.runpath else inherited
        return self._in_directories(library, (*before, *_expand(user.elf.runpath, user.origin), *self._system_directories()))

    def _in_directories(self, library: str, directories: Iterable[str]) -> str | None:
        """The first file of the right machine, as the loader passes over others."""
        for directory in directories:
            path = inroot.find_file(self.root, posixpath.join(directory, library))
            if path is not None:
                elf = read_elf(inroot.outer(self.root, path))
                if elf is not None and self.machine in (None, elf.machine):
                    return path
        return None

    def _open(self, library: str, path: str, *, user: str, inherited: tuple[str, ...]) -> None:
        if self._take(library, path, user=user):
            elf = read_elf(inroot.outer(self.root, path))
            if elf is not None and (self.loader is None or path != self.loader[1]):
                self.queue.append(_Object(name=library, origin=path, elf=elf, inherited=inherited))

    def _take(self, library: str, path: str, *, user: str) -> bool:
        """Whether it is new. The library directory holds one file of a name, so two programs must mean the same."""
        known = self.found.setdefault(library, path)
        if known != path:
            raise UserError(f"{user} uses {path} as {library}, but {self.first_user[library]} uses {known}: an image can hold one of them")
        if library in self.first_user:
            return False
        self.first_user[library] = user
        return True

    def _system_directories(self) -> tuple[str, ...]:
        configured: list[str] = []
        for file in sorted(glob.glob("etc/ld.so.conf.d/*.conf", root_dir=self.root)):
            path = inroot.find_file(self.root, file)
            if path is not None:
                with open(inroot.outer(self.root, path), encoding="utf-8", errors="replace") as lines:
                    configured += [line.strip() for line in lines if line.startswith("/")]
        beside_loader = () if self.loader is None else (posixpath.dirname(self.loader[1]),)
        return (*configured, *beside_loader, *_DEFAULT_DIRECTORIES)


def _expand(search_path: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """$ORIGIN as ld.so(8) says; what is relative would depend on the working directory and is left out.

    $LIB and $PLATFORM are known to the loader alone, so what is found by nothing else is an error that names the library.
    """
    here = posixpath.dirname(origin)
    expanded = [entry.replace("${ORIGIN}", here).replace("$ORIGIN", here) for entry in search_path]
    return tuple(entry for entry in expanded if entry.startswith("/") and "$" not in entry)


def find_closure(root: str, programs: Mapping[str, str], extra: Iterable[str]) -> Closure:
    """The libraries of `programs` (name for messages: canonical path in `root`) and of those named in `extra`.

    Raises UserError that names the program or library whose need is not met.
    """
    search = _Search(root)
    for name, origin in programs.items():
        elf = read_elf(inroot.outer(root, origin))
        if elf is not None and elf.dynamic:
            search.add_program(name, origin, elf)
    for library in extra:
        search.add_extra(library)
    search.walk()
    libraries = {name: Library(name=name, origin=path, sha256=_sha256(inroot.outer(root, path))) for name, path in search.found.items()}
    suggested = {library: user for library, user in search.suggested.items() if library not in libraries}
    return Closure(libraries=dict(sorted(libraries.items())), loader=search.loader[0] if search.loader else None, suggested=suggested)


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
