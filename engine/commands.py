"""Links to the commands: where the installation made none, and where scripts, cron and units look for a distribution's own.

What was staged for a package may come to a host whose /usr is read only: then no link of the package's is there. And whoever wrote
`/usr/bin/docker` into a script or `/usr/bin/dockerd` into a drop-in means Docker, whoever brought it. Nobody's file is replaced: a link of
ours is where nothing was, and a package that brings the file later takes its place.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.layout import Layout

DIRECTORIES = ("/usr/local/bin", "/opt/bin")
"""Where the commands are: the first that can be written, as `make install` does it."""
_WAY = "/run/skim/docker"
_ENGINES = {
    "docker": f"{_WAY}/docker/usr/bin/docker",
    "containerd": f"{_WAY}/containerd/usr/bin/containerd",
    "ctr": f"{_WAY}/containerd/usr/bin/ctr",
    "runc": f"{_WAY}/containerd/usr/sbin/runc",
}
_OURS = ("dockerd", "skim", "rkt")
_DISTRIBUTIONS = ("/usr/bin/docker", "/usr/bin/dockerd", "/usr/sbin/dockerd")
"""Where Debian's packages, or Docker's own, have them."""
_OTHERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin")


def _targets(layout: Layout) -> dict[str, str]:
    """What the link to each command says."""
    return {**_ENGINES, **{name: f"{layout.prefix}/bin/{name}" for name in _OURS}}


def link(layout: Layout) -> list[str]:
    """Link the commands that are linked nowhere; returns what there is to say about it, as lines."""
    lines = [] if any(_is_ours(layout, f"{directory}/docker") for directory in DIRECTORIES) else _link_all(layout)
    made = [path for path in _DISTRIBUTIONS if _make(layout, path)]
    return [*lines, *([f"      {', '.join(made)} linked, too: they are what scripts and units name"] if made else [])]


def _link_all(layout: Layout) -> list[str]:
    directory = next((path for path in DIRECTORIES if _can_be_written(layout.at(path))), None)
    if directory is None:
        return [f"      neither of {' and '.join(DIRECTORIES)} can be written: the commands are in {layout.prefix}/bin and {_WAY}"]
    os.makedirs(layout.at(directory), mode=0o755, exist_ok=True)
    has_rkt = any(os.path.lexists(layout.at(f"{other}/rkt")) for other in _OTHERS)
    made = [name for name in _targets(layout) if not (name == "rkt" and has_rkt) and _make(layout, f"{directory}/{name}")]
    if not made:
        return []
    where = "" if directory in os.environ.get("PATH", "").split(":") else f" (not on this shell's PATH: add {directory} to it)"
    return [f"      {', '.join(made)} linked in {directory}{where}"]


def _make(layout: Layout, path: str) -> bool:
    """Whether there is a new link; False where something is already, or nothing can be."""
    if os.path.lexists(layout.at(path)) or not os.access(os.path.dirname(layout.at(path)), os.W_OK):
        return False
    os.symlink(_targets(layout)[os.path.basename(path)], layout.at(path))
    return True


def unlink(layout: Layout) -> None:
    """Remove the links that `link` made: not those that the installation has on its list, which go with its other files."""
    installed = _installed(layout)
    paths = [f"{directory}/{name}" for directory in DIRECTORIES for name in _targets(layout)]
    made = [path for path in (*paths, *_DISTRIBUTIONS) if _is_ours(layout, path) and f"ours {path}" not in installed]
    for path in made:
        with contextlib.suppress(OSError):
            os.unlink(layout.at(path))
    if f"directory {DIRECTORIES[-1]}" not in installed and any(path.startswith(DIRECTORIES[-1]) for path in made):
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(layout.at(DIRECTORIES[-1]))


def _is_ours(layout: Layout, path: str) -> bool:
    try:
        return os.readlink(layout.at(path)) == _targets(layout)[os.path.basename(path)]
    except OSError:
        return False


def _can_be_written(path: str) -> bool:
    """Whether there can be files in the directory, or in the one that it would be made in."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK)


def _installed(layout: Layout) -> set[str]:
    try:
        with open(layout.at(f"{layout.prefix}/share/skim/installed"), encoding="utf-8", errors="surrogateescape") as file:
            return set(file.read().splitlines())
    except OSError:
        return set()
