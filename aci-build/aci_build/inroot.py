"""Files and links inside a directory that stands for `/`."""

from __future__ import annotations

import os
import posixpath
import stat

from linux.inside import resolve


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
