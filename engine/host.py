"""What the commands ask of the host: systemd's programs, and `rkt`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux.process import run

if TYPE_CHECKING:
    from engine.layout import Layout


def require_root(command: str) -> None:
    """Raises UserError unless we are root."""
    if os.geteuid() != 0:
        raise UserError(f"`skim {command}` needs root")


def require_systemd(layout: Layout) -> None:
    """Raises UserError unless systemd runs this host (sd_booted(3))."""
    if not os.path.isdir(layout.at("/run/systemd/system")):
        raise UserError("systemd does not run this host (it is not PID 1), and docker.service needs it")


def systemctl(*arguments: str) -> None:
    """Raises ProgramError if it fails."""
    run(["systemctl", *arguments], capture=True, env=_environment())


def try_systemctl(*arguments: str) -> bool:
    """Whether it worked; for what may already be so."""
    return run(["systemctl", *arguments], check=False, capture=True, env=_environment()).status == 0


def _environment() -> dict[str, str]:
    """A distribution's docker may have an init script beside its unit, whose links in /etc/rc?.d are none of ours."""
    return {**os.environ, "SYSTEMCTL_SKIP_SYSV": "1"}


def is_active(unit: str) -> bool:
    return unit_state(unit) in ("active", "activating", "reloading", "deactivating")


def unit_state(unit: str) -> str:
    """`active`, `inactive`, `failed`, …"""
    return run(["systemctl", "is-active", unit], check=False, capture=True).stdout.strip() or "unknown"


def rkt(layout: Layout, *arguments: str) -> str:
    """What it wrote to its standard output. Raises ProgramError if it fails."""
    return run([layout.rkt, *arguments], capture=True).stdout
