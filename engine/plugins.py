"""The engine's CLI plugins (`docker compose`, `docker buildx`), linked where every docker client looks for them.

The client has a fixed list of directories and no variable for another; /usr/local/libexec/docker/cli-plugins is the one in it that
belongs to the administrator of the host and that Docker's own instructions for installing a plugin by hand do not use: a plugin
in /usr/local/lib/docker/cli-plugins or in ~/.docker/cli-plugins goes before ours, a distribution's after.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.layout import Layout

DIRECTORY = "/usr/local/libexec/docker/cli-plugins"
DIRECTORIES = (DIRECTORY, "/usr/local/libexec/docker", "/usr/local/libexec")
_IN_IMAGE = ("usr/libexec/docker/cli-plugins", "usr/lib/docker/cli-plugins")
_WAY = "/run/skim/docker/docker"


def plugins_of(root: str) -> dict[str, str]:
    """Names of the plugins in the image at `root`, and what a link to each says."""
    found: dict[str, str] = {}
    for directory in _IN_IMAGE:
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(os.path.join(root, directory))):
                if name.startswith("docker-"):
                    found.setdefault(name, f"{_WAY}/{directory}/{name}")
    return found


def link(layout: Layout) -> list[str]:
    """Make the links to the installed engine's plugins, drop those that lead nowhere now; returns what could not be, as lines."""
    wanted = plugins_of(layout.engine_root("docker"))
    unlink(layout, keep=wanted)
    left = []
    for name, target in wanted.items():
        path = os.path.join(layout.at(DIRECTORY), name)
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            if not os.path.lexists(path):
                os.symlink(target, path)
        except OSError as error:
            left.append(
                f"{DIRECTORY} is not writable ({error.strerror}): for plugins, put "
                f'"cliPluginsExtraDirs": ["{os.path.dirname(target)}"] into ~/.docker/config.json'
            )
            break
    return left


def unlink(layout: Layout, keep: dict[str, str] | None = None) -> None:
    """Remove our links, except those in `keep`."""
    directory = layout.at(DIRECTORY)
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.islink(path):
            target = os.readlink(path)
            if target.startswith(_WAY + "/") and (keep or {}).get(name) != target:
                os.unlink(path)


def remove_directories(layout: Layout, before: Sequence[str]) -> None:
    """Remove the directories that are empty now and were not there before."""
    for directory in DIRECTORIES:
        if directory not in before:
            with contextlib.suppress(OSError):  # not there, or not empty: somebody else's by now
                os.rmdir(layout.at(directory))
