"""Which control groups the host has: one hierarchy or version 1's, and which resources can be limited (cgroups(7))."""

from __future__ import annotations

import os
from typing import NamedTuple

_ROOT = "/sys/fs/cgroup"


class ControlGroups(NamedTuple):
    """`unified`: version 2. `controllers` by the kernel's names (cpu, memory, …)."""

    unified: bool
    controllers: frozenset[str]


def control_groups(root: str = _ROOT) -> ControlGroups:
    """The host's. systemd's hybrid layout counts as version 1: the controllers are there."""
    try:
        with open(os.path.join(root, "cgroup.controllers"), encoding="ascii") as file:
            return ControlGroups(unified=True, controllers=frozenset(file.read().split()))
    except FileNotFoundError:
        pass
    try:
        mounted = os.listdir(root)
    except FileNotFoundError:
        mounted = []
    return ControlGroups(unified=False, controllers=frozenset(name for entry in mounted for name in entry.split(",")))
