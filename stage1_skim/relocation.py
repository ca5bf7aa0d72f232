"""Makes an image's files lead to each other and no longer to the host's, for images that aci-build has not made.

A walk over the root changes what the kernel and the loader follow by absolute path: the interpreter of every ELF program and of every
script, search paths of ELF files, symbolic links. `view` stands for the image's root on the host, so `#!/usr/bin/python3` becomes
`#!<view>/usr/bin/python3`. What the image does not have stays as it is: such a path was meant for the host.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from linux import inside
from stage1_skim import loader
from stage1_skim.elf import read_elf
from stage1_skim.foreign import GLIBC, LOADER_CACHE, MUSL, OURS, VIEW
from stage1_skim.layer import Layer
from stage1_skim.places import IMAGES_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from stage1_skim.elf import Elf, Text

# What the walk makes: names are short, since they are written over others.
GLIBC_LOADER, MUSL_LOADER, CONVERSIONS = f"{OURS}/g", f"{OURS}/m", f"{OURS}/gconv"

_LIBRARY_DIRECTORIES = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
_MUSL_PATH_FILE = "/etc/ld-musl-x86_64.path"
_MUSL_DIRECTORIES = "/lib:/usr/local/lib:/usr/lib"
_LONGEST_SCRIPT_LINE = 255  # the kernel reads 256 bytes (execve(2))


class Names(NamedTuple):
    """Where the host finds the relocated root, and the link to its loader's cache (no longer than the 16 characters it replaces)."""

    view: str
    cache: str


class Relocation:
    """One walk over `root`. With a `directory`, an empty one, changed files go there, and `root` is only read."""

    def __init__(self, root: str, names: Names, directory: str | None) -> None:
        self._root = root
        self._view = names.view
        self._cache = names.cache
        self._layer = Layer(root, directory)
        self._loaders = {
            path.encode(): os.fsencode(self._view + name)
            for path, name in ((GLIBC, GLIBC_LOADER), (MUSL, MUSL_LOADER))
            if self._is_file(path)
        }
        self._earlier = {GLIBC_LOADER: GLIBC, MUSL_LOADER: MUSL, **_links(root, OURS)}
        self._library_directories: list[str] = []
        self._search: dict[str, str] = {}  # directories of search paths, in the image, and their short names
        self._crowded_out: list[str] = []  # those that had no room in their file: the cache has their libraries

    def run(self) -> None:
        """Raises UserError for a loader that cannot be told where its image is, OSError for what the file system refuses."""
        self._layer.clear(OURS)
        if GLIBC.encode() in self._loaders:
            self._make_glibc_loader()
        if MUSL.encode() in self._loaders:
            self._make_musl_loader()
        for path, mode in self._walk(""):
            if stat.S_ISLNK(mode):
                self._relocate_link(path)
            elif stat.S_ISREG(mode):
                self._relocate_file(path, executable=bool(mode & 0o111))
        if GLIBC.encode() in self._loaders:
            self._layer.write(LOADER_CACHE, loader.cache_file(self._libraries()))
        for directory, name in self._search.items():
            self._layer.link(name, directory)
        self._layer.write(VIEW, os.fsencode(self._view))
        self._layer.finish()

    def _walk(self, directory: str) -> Iterator[tuple[str, int]]:
        """Path and mode of all that is below and no directory; links are not followed."""
        below = []
        with os.scandir(self._root + directory + "/") as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                if not entry.is_dir(follow_symlinks=False):
                    yield path, entry.stat(follow_symlinks=False).st_mode
                elif path != OURS:
                    below.append(path)
        for path in sorted(below):
            yield from self._walk(path)

    def _relocate_link(self, path: str) -> None:
        """An absolute link that leads to something in the image becomes relative."""
        target = os.readlink(self._root + path)
        if target.startswith("/") and os.path.lexists(inside.outside(self._root, target)):
            self._layer.link(path, target)

    def _relocate_file(self, path: str, *, executable: bool) -> None:
        name = os.path.basename(path)
        if not (executable or ".so" in name or name == "pyvenv.cfg"):
            return
        with open(self._root + path, "rb", buffering=0) as file:
            start = file.read(_LONGEST_SCRIPT_LINE + 1)
            if start.startswith(b"\x7fELF"):
                self._relocate_elf(path, file)
            elif executable and start.startswith(b"#!"):
                self._relocate_script(path, start)
            elif name == "pyvenv.cfg":
                self._relocate_virtual_environment(path)

    # -- ELF files ---------------------------------------------------------------------------------------------------------------------

    def _relocate_elf(self, path: str, file: FileIO) -> None:
        elf = read_elf(file.fileno())
        if elf is None:
            return
        patches = list(self._elf_patches(elf))
        if os.path.basename(path) == "libc.so.6":
            file.seek(0)
            patches.extend(self._conversion_patches(file.read()))
        if not patches:
            return
        with self._layer.changing(path) as out:
            if out is not None:
                for at, value in patches:
                    os.pwrite(out.fileno(), value, at)

    def _elf_patches(self, elf: Elf) -> Iterator[tuple[int, bytes]]:
        if elf.interpreter is not None:
            wanted = self._loaders.get(os.fsencode(self._plain(os.fsdecode(elf.interpreter.value))))
            if wanted is not None:
                yield elf.interpreter.at, wanted.ljust(elf.interpreter.room, b"\0")
        for text in elf.search:
            value = self._search_path(text)
            if value != text.value:
                yield text.at, value.ljust(text.room, b"\0")

    def _search_path(self, text: Text) -> bytes:
        """DT_RPATH or DT_RUNPATH with a short name for every absolute directory; without them all if there is no room for that."""
        given = [self._plain(os.fsdecode(part)) for part in text.value.split(b":") if part]
        absolute = [part for part in given if part.startswith("/")]
        if not absolute:
            return text.value
        resolved = {part: inside.resolve(self._root, part) for part in absolute}
        here = {part: path for part, path in resolved.items() if os.path.isdir(self._root + path)}
        short = {part: self._view + self._short_name(path) for part, path in here.items()}
        value = os.fsencode(":".join(short.get(part, part) for part in given if part in short or part not in absolute))
        if len(value) < text.room:
            return value
        self._crowded_out.extend(here.values())
        return os.fsencode(":".join(part for part in given if part not in absolute))

    def _short_name(self, directory: str) -> str:
        return self._search.setdefault(directory, f"{OURS}/{len(self._search)}")

    def _conversion_patches(self, library: bytes) -> Iterator[tuple[int, bytes]]:
        wanted = os.fsencode(self._view + CONVERSIONS)
        found = loader.conversions(library)
        if found is not None and len(wanted) <= len(found):
            self._search[self._plain(os.path.normpath(os.fsdecode(found)))] = CONVERSIONS
            yield from loader.conversion_patches(library, found, wanted)

    # -- loaders -----------------------------------------------------------------------------------------------------------------------

    def _make_glibc_loader(self) -> None:
        with open(inside.outside(self._root, GLIBC), "rb") as file:
            original = file.read()
        redirected = loader.redirect(original, os.fsencode(self._cache))
        if redirected is None:
            raise UserError(
                f"the image's loader {GLIBC} is not built like those that are known: it would take the host's libraries",
                hint="build the image with aci-build, which writes into every program where its libraries are",
            )
        self._layer.write(GLIBC_LOADER, redirected, mode=0o755)
        self._library_directories = [*loader.configured(self._root), *loader.compiled_in(original), *_LIBRARY_DIRECTORIES]

    def _make_musl_loader(self) -> None:
        """musl's loader reads its configuration from two directories above its own, as the program names it."""
        self._layer.link(MUSL_LOADER, inside.resolve(self._root, MUSL))
        file = inside.outside(self._root, _MUSL_PATH_FILE)
        text = _MUSL_DIRECTORIES
        if os.path.isfile(file):
            with open(file, encoding="utf-8", errors="surrogateescape") as lines:
                text = lines.read().replace("\n", ":")
        content = ":".join(self._view + self._plain(part) for part in text.split(":") if part.startswith("/"))
        self._layer.write(inside.resolve(self._root, _MUSL_PATH_FILE), os.fsencode(content + "\n"))

    def _libraries(self) -> dict[bytes, bytes]:
        """What the cache lists: all libraries of the loader's directories, by their files' names, then by their own (DT_SONAME)."""
        found = {os.path.basename(GLIBC).encode(): os.fsencode(self._view + GLIBC_LOADER)}
        sonames: dict[bytes, bytes] = {}
        directories = [inside.resolve(self._root, item) for item in (*self._library_directories, *self._crowded_out)]
        for directory in dict.fromkeys(directories):
            for name in _names(self._root + directory):
                path = inside.resolve(self._root, f"{directory}/{name}")
                soname = self._soname(path)
                if soname is not None:
                    found.setdefault(os.fsencode(name), os.fsencode(self._view + path))
                    sonames.setdefault(soname, os.fsencode(self._view + path))
        sonames.pop(b"", None)
        return {**sonames, **found}

    def _soname(self, path: str) -> bytes | None:
        """b"" for a library without one; None for what is no library of this architecture (a linker's script, say)."""
        try:
            with open(self._root + path, "rb", buffering=0) as file:
                elf = read_elf(file.fileno())
        except OSError:
            return None
        return None if elf is None else elf.soname or b""

    # -- texts -------------------------------------------------------------------------------------------------------------------------

    def _relocate_script(self, path: str, start: bytes) -> None:
        line, end, _ = start.partition(b"\n")
        word = next(iter(line[2:].split(None, 1)), b"")
        interpreter = self._plain(os.fsdecode(word))
        if end and interpreter.startswith("/") and self._is_file(interpreter):
            changed = line.replace(word, os.fsencode(self._view + interpreter), 1)
            if len(changed) < _LONGEST_SCRIPT_LINE:
                self._rewrite(path, line, changed)

    def _relocate_virtual_environment(self, path: str) -> None:
        """A Python virtual environment has the directory of its base interpreter in a file (PEP 405)."""
        with open(self._root + path, "rb") as file:
            for line in file:
                key, _, value = line.partition(b"=")
                home = self._plain(os.fsdecode(value.strip()))
                if key.strip() == b"home" and home.startswith("/") and os.path.isdir(inside.outside(self._root, home)):
                    self._rewrite(path, line, b"home = " + os.fsencode(self._view + home) + b"\n")
                    return

    def _rewrite(self, path: str, old: bytes, new: bytes) -> None:
        with self._layer.changing(path) as file:
            if file is not None:
                content = file.read().replace(old, new, 1)
                file.seek(0)
                file.write(content)
                file.truncate()

    def _plain(self, path: str) -> str:
        """A path as the image's builder wrote it, also in an image that was exported from a relocated root."""
        if not path.startswith(IMAGES_DIRECTORY + "/"):
            return path
        within = "/" + path[len(IMAGES_DIRECTORY) + 1 :].partition("/")[2]
        return self._earlier.get(within, within)

    def _is_file(self, path: str) -> bool:
        return os.path.isfile(inside.outside(self._root, path))


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if ".so" in name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _links(root: str, directory: str) -> dict[str, str]:
    """Links in a directory of the image, and where they lead."""
    try:
        paths = [f"{directory}/{name}" for name in os.listdir(root + directory)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {path: inside.resolve(root, path) for path in paths if os.path.islink(root + path)}
