"""The systemd mount units that keep the installed engine reachable, pod up or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from engine.record import Engine

_TEMPLATE = """\
# Written by `skim setup`.
[Unit]
Description={description}

[Mount]
What={what}
Where={where}
Type=none
Options=bind,ro
# Programs of the former engine may still run from here when it is replaced.
LazyUnmount=yes

[Install]
WantedBy=multi-user.target
"""


def unit_name(where: str) -> str:
    """The only name systemd accepts for the mount at `where` (systemd.mount(5)). Our paths have nothing to escape but dashes."""
    return where.strip("/").replace("-", "\\x2d").replace("/", "-") + ".mount"


class Bind(NamedTuple):
    """A directory of the installed engine and where it is shown."""

    what: str
    where: str
    description: str


def binds(engine: Engine, data: str = "/var/lib/rkt") -> dict[str, Bind]:
    """By the name of its unit: one bind mount for each app's image, one for each library directory (apps may share one)."""
    found = []
    for app, image in engine.app_images().items():
        rootfs = f"{data}/cas/tree/{image.tree}/rootfs"
        found.append(Bind(what=rootfs, where=f"/run/skim/engine/{app}", description=f"Installed image of {app} {image.version}".rstrip()))
        if image.libraries:
            found.append(
                Bind(
                    what=f"{rootfs}/usr/lib/skim/{image.libraries}",
                    where=f"/run/skim/lib/{image.libraries}",
                    description=f"Libraries of {app} {image.version}".rstrip(),
                )
            )
    return {unit_name(bind.where): bind for bind in found}


def mount_units(engine: Engine, data: str = "/var/lib/rkt") -> dict[str, str]:
    """Names and texts of the units."""
    return {
        name: _TEMPLATE.format(description=bind.description.replace("%", "%%"), what=bind.what.replace("%", "%%"), where=bind.where)
        for name, bind in binds(engine, data).items()
    }


def present_units(directory: str) -> list[str]:
    """Names of those that are in the unit directory, sorted; none where there is no such directory."""
    if not os.path.isdir(directory):
        return []
    return sorted(
        name for name in os.listdir(directory) if name.startswith(("run-skim-engine-", "run-skim-lib-")) and name.endswith(".mount")
    )


def library_units(names: list[str]) -> list[str]:
    """Those of `names` that mount a library directory."""
    return [name for name in names if name.startswith("run-skim-lib-")]
