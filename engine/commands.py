"""Links to the commands, where the installation made none: what was staged for a package came to a host whose /usr is read only."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.layout import Layout

DIRECTORIES = ("/usr/local/bin", "/opt/bin")
"""Where a link may be: the first that can be written is taken, as `make install` does."""
_COMMANDS = ("docker", "dockerd", "skim", "rkt")
_OTHERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin")


def link(layout: Layout) -> list[str]:
    """Link the commands if none is; returns what there is to say about it, as lines."""
    if any(_is_ours(layout, directory, "docker") for directory in DIRECTORIES):
        return []
    directory = next((path for path in DIRECTORIES if _can_be_written(layout.at(path))), None)
    if directory is None:
        return [f"      neither of {' and '.join(DIRECTORIES)} can be written: the commands are in {layout.prefix}/bin"]
    made = []
    os.makedirs(layout.at(directory), mode=0o755, exist_ok=True)
    for name in _COMMANDS:
        path = layout.at(f"{directory}/{name}")
        if os.path.lexists(path) or (name == "rkt" and any(os.path.lexists(layout.at(f"{other}/rkt")) for other in _OTHERS)):
            continue
        os.symlink(f"{layout.prefix}/bin/{name}", path)
        made.append(name)
    if not made:
        return []
    where = "" if directory in os.environ.get("PATH", "").split(":") else f" (not on this shell's PATH: add {directory} to it)"
    return [f"      {', '.join(made)} linked in {directory}{where}"]


def unlink(layout: Layout) -> None:
    """Remove the links that `link` made: not those that the installation has on its list, which go with its other files."""
    installed = _installed(layout)
    for directory in DIRECTORIES:
        for name in _COMMANDS:
            if _is_ours(layout, directory, name) and f"ours {directory}/{name}" not in installed:
                with contextlib.suppress(OSError):
                    os.unlink(layout.at(f"{directory}/{name}"))
    if f"directory {DIRECTORIES[-1]}" not in installed:
        with contextlib.suppress(OSError):  # not there, or not empty
            os.rmdir(layout.at(DIRECTORIES[-1]))


def _is_ours(layout: Layout, directory: str, name: str) -> bool:
    try:
        return os.readlink(layout.at(f"{directory}/{name}")) == f"{layout.prefix}/bin/{name}"
    except OSError:
        return False


def _can_be_written(path: str) -> bool:
    """Whether there can be files in the directory, or in the one that it would be made in."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    return os.access(path, os.W_OK)


def _installed(layout: Layout) -> set[str]:
    try:
        with open(layout.at(f"{layout.prefix}/share/skim/installed"), encoding="utf-8", errors="surrogateescape") as file:
            return set(file.read().splitlines())
    except OSError:
        return set()
