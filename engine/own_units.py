"""docker.service and docker.socket of the appliance: in place only while it is this host's Docker.

`make install` and packages put them below PREFIX, where systemd does not look. So files that were only copied, and a setup that fails,
leave the host's own Docker as it is.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from typing import TYPE_CHECKING

from appc.errors import UserError
from engine.record import write_atomically

if TYPE_CHECKING:
    from engine.before import Before
    from engine.layout import Layout

NAMES = ("docker.service", "docker.socket", "skim-collect.service")
ADMINISTRATORS = ("/etc/systemd/system/docker.service", "/etc/systemd/system/docker.socket")
"""They go before ours; what is there at the first setup is kept aside. What is put there later, such as a mask, is meant."""


def place(layout: Layout) -> bool:
    """Write what differs; whether anything did, and systemd has to be told. Raises UserError if the appliance's files are not all there."""
    changed = False
    for name in NAMES:
        source = os.path.join(layout.unit_sources, name)
        try:
            with open(source, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            raise UserError(f"{source} is missing", hint="install the appliance's files again") from None
        path = os.path.join(layout.units, name)
        if not os.path.isfile(path) or not filecmp.cmp(source, path, shallow=False):
            os.makedirs(layout.units, mode=0o755, exist_ok=True)
            write_atomically(path, text)
            changed = True
    return changed


def withdraw(layout: Layout) -> None:
    for name in NAMES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(layout.units, name))


def set_aside(layout: Layout, known: Before) -> list[str]:
    """Move the administrator's own units out of the way, once; returns lines about it."""
    lines = []
    for path in known.aside:
        here, kept = layout.at(path), layout.replaced + path
        if not os.path.lexists(here):
            continue
        if not os.path.lexists(kept):
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            shutil.copy2(here, f"{kept}.new", follow_symlinks=False)
            os.replace(f"{kept}.new", kept)
            lines.append(f"      {path} goes before ours: kept in {kept.removeprefix(layout.root)} until `skim remove`")
        os.unlink(here)
    return lines


def put_back(layout: Layout, known: Before) -> list[str]:
    """The reverse; returns what could not be, as lines."""
    lines = []
    for path in known.aside:
        here, kept = layout.at(path), layout.replaced + path
        if not os.path.lexists(kept):
            continue
        if os.path.lexists(here):
            lines.append(f"{path} is a newer one: what was there before stays in {kept.removeprefix(layout.root)}")
            continue
        shutil.copy2(kept, f"{here}.new", follow_symlinks=False)
        os.replace(f"{here}.new", here)
        os.unlink(kept)
    with contextlib.suppress(OSError):
        os.removedirs(layout.replaced + "/etc/systemd/system")
    return lines
