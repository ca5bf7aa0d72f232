"""What the host was like before the first setup, so that `skim remove` can leave it like that again."""

from __future__ import annotations

import contextlib
import grp
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from appc.errors import UserError
from engine import host, links
from engine.host_docker import UNITS
from engine.own_units import ADMINISTRATORS
from engine.record import write_atomically

if TYPE_CHECKING:
    from engine.layout import Layout

GROUPS = ("docker", "rkt")
"""What sysusers.d makes."""
OWN = ("docker.socket", "docker.service")
"""Units of a host's own Docker that ours take the place of."""
ENABLING_LINKS = {
    "docker.service": "/etc/systemd/system/multi-user.target.wants/docker.service",
    "docker.socket": "/etc/systemd/system/sockets.target.wants/docker.socket",
}
"""`systemctl enable` of ours replaces a distribution's."""
MASK = "/dev/null"
_SYSTEM = "/etc/systemd/system"
_UNIT_DIRECTORIES = (
    "/etc/systemd/system.attached",
    *(f"{_SYSTEM}/{target}.target.wants" for target in ("multi-user", "default", "sockets")),
)


_ACCOUNTS = ("/etc/group", "/etc/gshadow", "/etc/group-", "/etc/gshadow-")
"""The last two are what the tools that change the first two keep of them. They are as they were again if those are."""


class Before(NamedTuple):
    """What there was: `groups` of ours by name; `directories` that links need; where each enabling link of Docker's units led; which of
    these were active; the administrator's own unit files, kept `aside` (of links: what they said); texts of `accounts`' files.
    """

    groups: list[str]
    data: bool
    containerd_enabled: bool
    directories: list[str]
    links: dict[str, str]
    unit_directories: list[str]
    active: list[str]
    aside: dict[str, str]
    accounts: dict[str, str | None]


_UNKNOWN: dict[str, Any] = {
    "groups": list(GROUPS),
    "data": True,
    "containerd_enabled": False,
    "directories": list(links.DIRECTORIES),
    "links": {},
    "unit_directories": list(_UNIT_DIRECTORIES),
    "active": [],
    "aside": {},
    "accounts": {},
}
"""For what an older version did not note: what is left alone then."""


def look(layout: Layout) -> Before:
    """The host as it is now."""
    return Before(
        groups=[group for group in GROUPS if _group_exists(group)],
        data=os.path.isdir(layout.data),
        containerd_enabled=host.try_systemctl("is-enabled", "containerd.service"),
        directories=[path for path in links.DIRECTORIES if os.path.isdir(layout.at(path))],
        links=_enabling_links(layout),
        unit_directories=[path for path in _UNIT_DIRECTORIES if os.path.isdir(layout.at(path))],
        active=[unit for unit in UNITS if host.is_active(unit)],
        aside={path: _target(layout.at(path)) for path in ADMINISTRATORS if os.path.lexists(layout.at(path))},
        accounts={path: _content(layout.at(path)) for path in _ACCOUNTS},
    )


def remember(layout: Layout) -> Before:
    """What was noted at the first setup; noted now if this is the first."""
    known = recall(layout)
    if known is None:
        known = look(layout)
        write_atomically(layout.before, json.dumps(known._asdict(), indent=2) + "\n", mode=0o600)  # gshadow is not for everybody
    return known


def recall(layout: Layout) -> Before | None:
    """What was noted, by this version or another; None if nothing was. Raises UserError if the note is damaged."""
    try:
        with open(layout.before, encoding="utf-8") as file:
            noted = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        noted = None
    if not isinstance(noted, dict) or any(type(noted.get(name, value)) is not type(value) for name, value in _UNKNOWN.items()):
        raise UserError(f"{layout.before} is damaged", hint="remove it; what was before then stays unknown")
    return Before(**{name: noted.get(name, value) for name, value in _UNKNOWN.items()})


def restore_units(layout: Layout, before: Before) -> list[str]:
    """Enabled and disabled as they were; returns what could not be, as lines."""
    # Not those to a unit that has gone since, with its package.
    wanted = {path: to for path, to in before.links.items() if os.path.exists(layout.at(os.path.join(os.path.dirname(path), to)))}
    for path, target in _enabling_links(layout).items():
        if wanted.get(path) != target:
            os.unlink(layout.at(path))
    for path, target in wanted.items():
        if target and not os.path.lexists(layout.at(path)):
            os.makedirs(os.path.dirname(layout.at(path)), exist_ok=True)
            os.symlink(target, layout.at(path))
    exists = host.try_systemctl("cat", "containerd.service")
    if before.containerd_enabled and exists and not host.try_systemctl("enable", "containerd.service"):
        return ["containerd.service could not be enabled again"]
    return []


def restore(layout: Layout, before: Before) -> list[str]:
    """Put back what else setup changed beyond its own files; returns what could not be, as lines."""
    left = []
    for path in _UNIT_DIRECTORIES:
        if path not in before.unit_directories:
            with contextlib.suppress(OSError):  # not there, or not empty
                os.rmdir(layout.at(path))
    for group in GROUPS:
        if group in before.groups or not _group_exists(group):
            continue
        if grp.getgrnam(group).gr_mem:
            left.append(f"the group {group} stays: it has members")
        elif not _delete_group(group):
            left.append(f"the group {group} could not be removed")
    if before.accounts and all(_content(layout.at(path)) == before.accounts.get(path) for path in _ACCOUNTS[:2]):
        for path in _ACCOUNTS[2:]:
            _write_again(layout.at(path), before.accounts.get(path))
    return left


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def _write_again(path: str, text: str | None) -> None:
    """In place, so that owner and mode stay; a file that was not there goes."""
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif _content(path) != text:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)


def _enabling_links(layout: Layout) -> dict[str, str]:
    """The links by which something starts Docker's units, and what they say."""
    found = {}
    top = layout.at(_SYSTEM)
    for directory in sorted(os.listdir(top)) if os.path.isdir(top) else []:
        if directory.endswith((".wants", ".requires")):
            for unit in UNITS:
                path = f"{_SYSTEM}/{directory}/{unit}"
                if os.path.islink(layout.at(path)):
                    found[path] = os.readlink(layout.at(path))
    return found


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
