"""What both PyInstaller recipes share: which modules stay out, and how the bundle is laid out so that it starts fast.

Used by host.spec and stage1.spec, at build time only. README.md beside this file has the measurements behind each choice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Entry = tuple[str, str, str]
"""One line of PyInstaller's table of contents: name in the bundle, file it comes from, type code."""

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def entry(program: str) -> list[str]:
    """The script that `program` starts with."""
    return [os.path.join(ROOT, "freeze", "entry", f"{program}.py")]


def modules_of(package: str) -> list[str]:
    """All modules of one of our packages: a command's module may be imported by a name that is put together at run time."""
    found: list[str] = []
    for folder, _, files in os.walk(os.path.join(ROOT, package)):
        name = os.path.relpath(folder, ROOT).replace(os.sep, ".")
        modules = [file.removesuffix(".py") for file in files if file.endswith(".py")]
        found.extend(name if module == "__init__" else f"{name}.{module}" for module in modules if module != "__main__")
    return sorted(found)


RUNTIME_HOOKS = [os.path.join(ROOT, "freeze", "clean_environment.py")]

# Neither program opens a network connection, renders text in odd code pages, or introspects itself; each of these drags in
# megabytes (ssl: libcrypto) or many modules (inspect: ast, dis, tokenize) that something imports for a case we never reach.
UNUSED = [
    "_codecs_cn",
    "_codecs_hk",
    "_codecs_iso2022",
    "_codecs_jp",
    "_codecs_kr",
    "_codecs_tw",
    "_decimal",
    "_multibytecodec",
    "_pydecimal",
    "_ssl",
    "asyncio",
    "calendar",
    "curses",
    "decimal",
    "distutils",
    "doctest",
    "email",
    "ftplib",
    "http",
    "importlib.metadata",
    "importlib.resources",
    "inspect",
    "lib2to3",
    "multiprocessing",
    "optparse",
    "pdb",
    "pickle",
    "pkg_resources",
    "pydoc",
    "readline",
    "setuptools",
    "sqlite3",
    "ssl",
    "statistics",
    "tkinter",
    "unittest",
    "urllib",
    "xml",
    "xmlrpc",
    "zipfile",
]

ENCODINGS = {"__init__", "aliases", "ascii", "latin_1", "utf_8"}
"""The interpreter runs in UTF-8 mode, so no other codec is ever looked up."""


def without_stock_hooks(scripts: Iterable[Entry]) -> list[Entry]:
    """Leave out PyInstaller's own run-time hooks: the one for `inspect` alone imports half the library at every start."""
    return [entry for entry in scripts if not entry[0].startswith("pyi_rth")]


def without_codecs(datas: Iterable[Entry]) -> list[Entry]:
    """Keep the handful of codecs that are used; PyInstaller collects all 120."""
    kept = []
    for entry in datas:
        folder, name = os.path.split(entry[0])
        if folder != "encodings" or name.removesuffix(".pyc") in ENCODINGS:
            kept.append(entry)
    return kept


INTERPRETER_OPTIONS: list[tuple[str, None, str]] = [("X utf8", None, "OPTION")]
