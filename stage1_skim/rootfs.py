"""Programs inside an app's root, where a link in an image never leads to a file of the host."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from linux.inside import outside, resolve


def is_executable(root: str, path: str) -> bool:
    """Whether the in-image path is a regular file that somebody may execute."""
    try:
        status = os.stat(outside(root, path))
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)


def find_executable(root: str, command: str, *, directory: str, search: list[str]) -> str | None:
    """The in-image path that `command` (exec[0]) names, links resolved, or None.

    Absolute: itself. With a slash: relative to `directory`, the app's working directory. Bare: the first of `search`, the app's PATH.
    """
    if "/" in command:
        candidates = [os.path.join(directory, command)]
    else:
        candidates = [os.path.join(element, command) for element in search if element.startswith("/")]
    for candidate in candidates:
        if is_executable(root, candidate):
            return resolve(root, candidate)
    return None


class Interpreter(NamedTuple):
    """What runs a script: `program` is the in-image path, links resolved; `words` are as the script's first line has them."""

    program: str
    words: tuple[str, ...]


def script_interpreter(root: str, program: str) -> Interpreter | None:
    """Of a script whose `#!` line names a program of the image; None for any other program (execve(2)).

    It is told the name that it was called by: many a program does what that says.
    """
    try:
        with open(root + program, "rb") as file:
            line = file.read(256)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = tuple(os.fsdecode(line[2:].split(b"\n", 1)[0].strip()).split(None, 1))
    if not words or not words[0].startswith("/") or not is_executable(root, words[0]):
        return None
    return Interpreter(program=resolve(root, words[0]), words=words)
