"""Paths inside a directory that stands for `/`: symbolic links are followed as if nothing existed outside it."""

from __future__ import annotations

import os

from appc.errors import UserError

_MOST_LINKS = 40  # as the kernel's ELOOP


def resolve(root: str, path: str) -> str:
    """Where `path` leads inside `root`: an absolute path inside it, free of links and dots.

    What does not exist keeps its name, so the result can be made. What climbs above the root stays at the root, as in a chroot.
    Raises UserError for a loop of links.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del resolved[-1:]
            continue
        try:
            target = os.readlink(os.path.join(root, *resolved, part))
        except OSError:  # no link, or nothing at all: the name stands
            resolved.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UserError(f"{path}: too many levels of symbolic links in the image")
        if target.startswith("/"):
            resolved.clear()
        pending.extend(item for item in reversed(target.split("/")) if item not in ("", "."))
    return "/" + "/".join(resolved)


def outside(root: str, path: str) -> str:
    """The host's path of a path inside `root`, links resolved there. Raises UserError for a loop of links."""
    return root + resolve(root, path)
