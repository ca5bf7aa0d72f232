"""Paths inside a directory that stands for `/`: symbolic links are followed as if nothing existed outside it."""

from __future__ import annotations

import os
import posixpath
import stat

from appc.errors import UserError

_LINK_LIMIT = 40  # as Linux: ELOOP after so many


def resolve(root: str, path: str) -> str:
    """The canonical path, absolute inside `root`, that `path` leads to; what does not exist is kept as it is written.

    A link that climbs above the root stays at the root, as in a chroot. Raises UserError for a loop of links.
    """
    done: list[str] = []
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        target = _link_target(posixpath.join(root, *done, part))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _LINK_LIMIT:
            raise UserError(f"{path} leads in a circle of symbolic links")
        if target.startswith("/"):
            done.clear()
        todo.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
    return "/" + "/".join(done)


def outer(root: str, path: str) -> str:
    """The path on this machine of an absolute path inside `root`."""
    return posixpath.join(root, path.lstrip("/"))


def find_file(root: str, path: str) -> str | None:
    """The canonical path inside `root` of the regular file that `path` leads to, or None."""
    found = resolve(root, path)
    try:
        return found if stat.S_ISREG(os.stat(outer(root, found), follow_symlinks=False).st_mode) else None
    except OSError:
        return None


def relative_target(link: str, target: str) -> str:
    """How a link at `link` must be written to lead to `target`, both absolute inside the root."""
    return posixpath.relpath(target, posixpath.dirname(link))


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
