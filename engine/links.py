"""What the engine brings beside its programs, linked where everybody looks for it: CLI plugins, completions of the shells, manual pages.

Every link leads through /run/skim/docker, so what is found is the running engine's, or the installed one's while no pod runs. What somebody
else has put in such a place stays and is used in the place of ours.

The client has a fixed list of directories for plugins and no variable for another; /usr/local/libexec/docker/cli-plugins is the one in it
that belongs to the administrator of the host and that Docker's own instructions for installing a plugin by hand do not use: a plugin
in /usr/local/lib/docker/cli-plugins or in ~/.docker/cli-plugins goes before ours, a distribution's after.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.layout import Layout

_WAY = "/run/skim/docker"
_SHARE = f"{_WAY}/docker/usr/share"


class Place(NamedTuple):
    """A directory of the host, what is looked for there, and the directories of an image that may have it, the first one first."""

    directory: str
    what: str
    in_image: tuple[str, ...]


PLUGINS = Place("/usr/local/libexec/docker/cli-plugins", "plugins", ("usr/libexec/docker/cli-plugins", "usr/lib/docker/cli-plugins"))
PLACES = (
    PLUGINS,
    Place("/usr/local/share/bash-completion/completions", "completions", ("usr/share/bash-completion/completions",)),
    Place("/usr/local/share/zsh/site-functions", "completions", ("usr/share/zsh/vendor-completions", "usr/share/zsh/site-functions")),
    # Fish as Debian builds it looks below /usr/local/share only where XDG_DATA_DIRS says so.
    Place("/etc/fish/completions", "completions", ("usr/share/fish/vendor_completions.d",)),
    *(Place(f"/usr/local/share/man/man{section}", "manual pages", (f"usr/share/man/man{section}",)) for section in "158"),
)
_NAMES = {"docker": ("docker", "Dockerfile"), "containerd": ("containerd", "ctr", "runc")}
"""How the names begin of what belongs to an app's programs. An image may have pages of other packages, which the host has its own of."""


def _with_parents(directory: str) -> Iterator[str]:
    while directory not in ("/usr/local", "/etc"):
        yield directory
        directory = os.path.dirname(directory)


DIRECTORIES = tuple(sorted({path for place in PLACES for path in _with_parents(place.directory)}, reverse=True))
"""Every directory that links may need, those within others first."""


def links_of(layout: Layout) -> dict[str, str]:
    """For the installed engine: each path on the host, and what the link there says."""
    found: dict[str, str] = {}
    for place in PLACES:
        for app, beginnings in _NAMES.items():
            for directory in place.in_image:
                for name in _names_in(os.path.join(layout.engine_root(app), directory)):
                    if name.lstrip("_").startswith(beginnings):
                        found.setdefault(f"{place.directory}/{name}", f"{_WAY}/{app}/{directory}/{name}")
    return found


def link(layout: Layout) -> list[str]:
    """Make the links to what the installed engine has, drop those that it has not; returns what could not be linked, as lines."""
    wanted = links_of(layout)
    unlink(layout, keep=wanted)
    not_linked: dict[str, str] = {}
    for place in PLACES:
        try:
            for path, target in wanted.items():
                if os.path.dirname(path) == place.directory:
                    _make(layout.at(path), target)
        except OSError as error:
            not_linked[place.what] = f"{place.directory}: {error.strerror}"
    return _told(not_linked, wanted)


def _make(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if not os.path.lexists(path):
        os.symlink(target, path)


def _told(not_linked: dict[str, str], wanted: dict[str, str]) -> list[str]:
    if not not_linked:
        return []
    lines = [f"      not linked: {', '.join(not_linked)} ({'; '.join(not_linked.values())}); they are in {_SHARE}"]
    if PLUGINS.what in not_linked:
        directory = next(os.path.dirname(target) for path, target in wanted.items() if path.startswith(PLUGINS.directory))
        lines.append(f'      for plugins, put "cliPluginsExtraDirs": ["{directory}"] into ~/.docker/config.json')
    return lines


def unlink(layout: Layout, keep: dict[str, str] | None = None) -> None:
    """Remove our links, except those in `keep`."""
    for place in PLACES:
        for name in _names_in(layout.at(place.directory)):
            path = f"{place.directory}/{name}"
            if os.path.islink(layout.at(path)):
                target = os.readlink(layout.at(path))
                if target.startswith(_WAY + "/") and (keep or {}).get(path) != target:
                    os.unlink(layout.at(path))


def remove_directories(layout: Layout, before: Sequence[str]) -> None:
    """Remove the directories that are empty now and were not there before."""
    for directory in DIRECTORIES:
        if directory not in before:
            with contextlib.suppress(OSError):  # not there, or not empty: somebody else's by now
                os.rmdir(layout.at(directory))


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
