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


def open_parent(root: str, path: str) -> tuple[int, str]:
    """A descriptor (O_PATH) of the directory that holds `path`, a result of `resolve`, and the name there; directories that are missing are
    made.

    Every step is taken by its own name from the one before it: a link that somebody has put in its place meanwhile is an error, not a way
    out. Raises OSError.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    *directories, name = [part for part in path.split("/") if part]
    parent = os.open(root, flags & ~os.O_NOFOLLOW)
    for directory in directories:
        try:
            try:
                below = os.open(directory, flags, dir_fd=parent)
            except FileNotFoundError:
                os.mkdir(directory, 0o755, dir_fd=parent)
                below = os.open(directory, flags, dir_fd=parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, root + path) from None
        finally:
            os.close(parent)
        parent = below
    return parent, name


def outside(root: str, path: str) -> str:
    """The host's path of a path inside `root`, links resolved there. Raises UserError for a loop of links."""
    return root + resolve(root, path)
