"""All checks of a host, in the order of the table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.doctor import access, cgroups, daemon_json, installed, kernel, pods, settings, space, storage, surroundings, units
from engine.doctor.probe import Probe

if TYPE_CHECKING:
    from engine.doctor.finding import Check
    from engine.layout import Layout


def examine(layout: Layout) -> list[Check]:
    """Look at everything; nothing is changed."""
    probe = Probe(layout)
    engine = installed.gather(probe)
    unit = units.gather(probe)
    told = settings.gather(probe, unit.service)
    groups = cgroups.gather(probe)
    around = surroundings.gather(probe, os.environ.get("PATH", os.defpath))
    return [
        *installed.checks(engine, set_up=unit.set_up, running=unit.service.active == "active"),
        *units.checks(unit),
        *access.checks(access.gather(probe), unit),
        *daemon_json.checks(told, daemon_json.gather(probe, told), ours=unit.program_kind in ("ours", "script")),
        *kernel.checks(kernel.gather(probe), cgroup_v1=groups.is_v1, iptables=around.iptables),
        *cgroups.checks(groups, told),
        *storage.checks(storage.gather(probe, told), told, engine.version),
        *space.checks(space.gather(probe, told)),
        *pods.checks(pods.gather(probe)),
        *surroundings.checks(around, told, unit),
    ]
