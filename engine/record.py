"""/var/lib/skim/engine.env: the active engine as shell assignments, so that the dockerd wrapper reads it without starting anything."""

from __future__ import annotations

import os
import shlex
from typing import NamedTuple

from appc.errors import UserError

_ROLES = ("stage1", "containerd", "docker")
_FIELDS = ("id", "name", "version", "tree", "libraries")


class Image(NamedTuple):
    """An image in the store: its key (`sha512-` and 64 hex digits), the tree store's id of it, and its library digest ("" for none)."""

    id: str
    name: str
    version: str
    tree: str
    libraries: str


class Engine(NamedTuple):
    """The three images of a docker pod."""

    stage1: Image
    containerd: Image
    docker: Image

    def app_images(self) -> dict[str, Image]:
        """Images of the apps, by app."""
        return {"containerd": self.containerd, "docker": self.docker}


def engine_text(engine: Engine) -> str:
    """The file's content. `<ROLE>_ID` is what the wrapper needs; the rest is for `skim status`."""
    lines = ["# The active engine, written by `skim setup`."]
    for role, image in zip(_ROLES, engine, strict=True):
        lines += [f"{role.upper()}_{field.upper()}={shlex.quote(value)}" for field, value in zip(_FIELDS, image, strict=True)]
    return "\n".join(lines) + "\n"


def parse_engine(text: str) -> Engine:
    """The reverse of `engine_text`. Raises UserError."""
    try:
        values = dict(word.split("=", 1) for word in shlex.split(text, comments=True))
        images = [Image(*(values[f"{role.upper()}_{field.upper()}"] for field in _FIELDS)) for role in _ROLES]
    except (KeyError, ValueError):
        raise UserError("engine.env is damaged", hint="run `skim setup`") from None
    return Engine(*images)


def read_engine(path: str) -> Engine | None:
    """The active engine, None if none was set up. Raises UserError if the file is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_engine(file.read())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserError("engine.env is damaged", hint="run `skim setup`") from None


def write_atomically(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a power cut, meets the old content or the new."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
