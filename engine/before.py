"""What the host was like before the first setup, so that `skim remove` can leave it like that again."""

from __future__ import annotations

import contextlib
import grp
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from engine import host, links
from engine.record import write_atomically

if TYPE_CHECKING:
    from engine.layout import Layout

GROUPS = ("docker", "rkt")
"""What sysusers.d makes."""
ENABLING_LINKS = (
    "/etc/systemd/system/multi-user.target.wants/docker.service",
    "/etc/systemd/system/sockets.target.wants/docker.socket",
)
"""`systemctl enable` of ours replaces a distribution's."""


class Before(NamedTuple):
    """What there was: `groups` of ours by name; `directories` that links need; of `links`, where each led ("" where there was none)."""

    groups: list[str]
    data: bool
    containerd_enabled: bool
    directories: list[str]
    links: dict[str, str]


def look(layout: Layout) -> Before:
    """The host as it is now."""
    return Before(
        groups=[group for group in GROUPS if _group_exists(group)],
        data=os.path.isdir(layout.data),
        containerd_enabled=host.try_systemctl("is-enabled", "containerd.service"),
        directories=[path for path in links.DIRECTORIES if os.path.isdir(layout.at(path))],
        links={path: _target(layout.at(path)) for path in ENABLING_LINKS},
    )


def remember(layout: Layout) -> Before:
    """What was noted at the first setup; noted now if this is the first."""
    known = recall(layout)
    if known is None:
        known = look(layout)
        write_atomically(layout.before, json.dumps(known._asdict(), indent=2) + "\n")
    return known


def recall(layout: Layout) -> Before | None:
    """What was noted, None if nothing was. Raises UserError if the note is damaged."""
    try:
        with open(layout.before, encoding="utf-8") as file:
            return Before(**json.load(file))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError):
        raise UserError(f"{layout.before} is damaged", hint="remove it; what was before then stays unknown") from None


def restore(layout: Layout, before: Before) -> list[str]:
    """Put back what setup changed beyond its own files; returns what could not be, as lines."""
    left = []
    for path, target in before.links.items():
        if target and not os.path.lexists(layout.at(path)):
            os.makedirs(os.path.dirname(layout.at(path)), exist_ok=True)
            os.symlink(target, layout.at(path))
    if before.containerd_enabled and not host.try_systemctl("enable", "containerd.service"):
        left.append("containerd.service could not be enabled again")
    for group in GROUPS:
        if group in before.groups or not _group_exists(group):
            continue
        if grp.getgrnam(group).gr_mem:
            left.append(f"the group {group} stays: it has members")
        elif not _delete_group(group):
            left.append(f"the group {group} could not be removed")
    return left


def _delete_group(group: str) -> bool:
    from linux.process import ProgramError, run

    try:
        return run(["groupdel", group], check=False, capture=True).status == 0
    except ProgramError:
        return False


def _group_exists(group: str) -> bool:
    with contextlib.suppress(KeyError):
        grp.getgrnam(group)
        return True
    return False


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
