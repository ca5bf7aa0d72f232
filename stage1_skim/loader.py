"""The image's own dynamic loader, made to look nowhere but in its image: strings that are compiled into it, and its cache (ld.so(8)).

glibc's loader searches what an object names (DT_RPATH, DT_RUNPATH), then the cache, then directories that are compiled in. The host's
cache and the host's directories must never answer for a program of an image, so the copy of the loader that runs it has the name of another
cache, which lists all libraries of the image, and directories that hold none. A replacement is always as long as what it replaces, since
the compiler may have used the length.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from linux import inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CACHE = b"/etc/ld.so.cache"
_PRELOAD = b"/etc/ld.so.preload"
_DIRECTORIES = re.compile(rb"(?:/(?:[\w.+-]+/)*lib[\w.+-]*/(?:[\w.+-]+/)*\0)+")
_NO_LIBRARY = b"/sys"  # a file system of the kernel's, in which nobody can put a file
_CONVERSIONS = re.compile(rb"(?<=\0)(/[\w./+-]+/gconv)(/gconv-modules\.cache)?(?=\0)")

_CACHE_HEADER = struct.Struct("<17s3sIIB3xIIII")
_CACHE_ENTRY = struct.Struct("<iIIIQ")
_X86_64_LIBC6 = 0x303
_LITTLE_ENDIAN = 2
_DIGITS_OR_ONE = re.compile(rb"\d+|\D", re.DOTALL)


def redirect(loader: bytes, cache: bytes) -> bytes | None:
    """glibc's loader with `cache` (at most as long as CACHE) for its cache, or None if it is not built as those that are known."""
    if loader.count(b"\0" + CACHE + b"\0") != 1 or not _DIRECTORIES.search(loader):
        return None
    text = loader.replace(b"\0" + CACHE + b"\0", b"\0" + _padded(cache, len(CACHE)) + b"\0")
    # A name beside the cache's, which nothing ever makes: what the host preloads is made for the host's programs.
    text = text.replace(b"\0" + _PRELOAD + b"\0", b"\0" + _padded(cache + b".", len(_PRELOAD)) + b"\0")
    return _DIRECTORIES.sub(lambda found: re.sub(rb"[^\0]+", _nowhere, found[0]), text)


def compiled_in(loader: bytes) -> list[str]:
    """The directories that the loader searches when all else has failed."""
    found = [part for match in _DIRECTORIES.finditer(loader) for part in match[0].split(b"\0") if part]
    return list(dict.fromkeys(part.decode("ascii").rstrip("/") for part in found))


def configured(root: str) -> list[str]:
    """Directories of ld.so.conf(5) in the image at `root`, and of its usual folder even where the file that includes that is missing."""
    found: list[str] = []
    pending = ["/etc/ld.so.conf", "/etc/ld.so.conf.d/*.conf"]
    seen = set()
    while pending:
        folder, pattern = os.path.split(pending.pop(0))
        for path in _matching(root, folder, pattern):
            if path in seen:
                continue
            seen.add(path)
            with open(path, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    words = line.split("#", 1)[0].split()
                    if words[:1] == ["include"]:
                        pending.extend(os.path.join(folder, word) for word in words[1:])
                    else:
                        found.extend(word for word in words if word.startswith("/"))
    return found


def _matching(root: str, folder: str, pattern: str) -> list[str]:
    import fnmatch

    try:
        names = sorted(fnmatch.filter(os.listdir(inside.outside(root, folder)), pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in (inside.outside(root, f"{folder}/{name}") for name in names) if os.path.isfile(path)]


def conversions(library: bytes) -> bytes | None:
    """The directory of character conversions (iconv(3)) that is compiled into a C library."""
    found = _CONVERSIONS.search(library)
    return found[1] if found else None


def conversion_patches(library: bytes, old: bytes, new: bytes) -> Iterator[tuple[int, bytes]]:
    """Offsets, and what is written there, for another directory of conversions, no longer than the old one.

    Their cache holds absolute paths: it gets a name that nothing has, and the library then reads their configuration.
    """
    for match in _CONVERSIONS.finditer(library):
        if match[1] == old:
            yield match.start(), _padded(new, len(old)) + (match[2][:-1] + b"-" if match[2] else b"")


def cache_file(libraries: Mapping[bytes, bytes]) -> bytes:
    """ld.so.cache of glibc's format 1.1: `libraries` are names with their paths."""
    ordered = sorted(libraries, key=_order, reverse=True)
    position = _CACHE_HEADER.size + _CACHE_ENTRY.size * len(ordered)
    entries, strings = [], []
    for name in ordered:
        path = libraries[name]
        entries.append(_CACHE_ENTRY.pack(_X86_64_LIBC6, position, position + len(name) + 1, 0, 0))
        strings.append(name + b"\0" + path + b"\0")
        position += len(strings[-1])
    text = b"".join(strings)
    header = _CACHE_HEADER.pack(b"glibc-ld.so.cache", b"1.1", len(ordered), len(text), _LITTLE_ENDIAN, 0, 0, 0, 0)
    return header + b"".join(entries) + text


def _order(name: bytes) -> list[tuple[int, int]]:
    """How the loader's binary search compares: runs of digits by their number, and after every other character."""
    return [(1, int(part)) if part.isdigit() else (0, part[0]) for part in _DIGITS_OR_ONE.findall(name)]


def _nowhere(directory: re.Match[bytes]) -> bytes:
    return _NO_LIBRARY.ljust(len(directory[0]), b"/")


def _padded(path: bytes, length: int) -> bytes:
    """The same path in exactly so many bytes: slashes before its last part count as one."""
    head, _, tail = path.rpartition(b"/")
    return head + b"/" * (length - len(head) - len(tail)) + tail
