"""Who may use Docker: the group docker, and the socket's owner, group and mode."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, note, ok, warning

if TYPE_CHECKING:
    from engine.doctor.probe import Probe
    from engine.doctor.units import Units

SOCKET = "/run/docker.sock"
GROUP = "docker"
_RESTART = "systemctl restart docker.socket docker.service"


class Access(NamedTuple):
    """`groups` by number; `mode` None where there is no socket; `may_write`: whether we may use it; `client`: DOCKER_HOST and such."""

    groups: dict[int, str]
    mode: int | None
    owner: int
    group: int
    may_write: bool
    client: str
    is_root: bool

    @property
    def has_group(self) -> bool:
        return GROUP in self.groups.values()


def gather(probe: Probe) -> Access:
    found = probe.stat(SOCKET)
    return Access(
        groups=_groups(probe.text("/etc/group") or ""),
        mode=found.st_mode if found else None,
        owner=found.st_uid if found else 0,
        group=found.st_gid if found else 0,
        may_write=found is not None and os.access(probe.at(SOCKET), os.R_OK | os.W_OK),
        client=next((f"{name}={value}" for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if (value := os.environ.get(name))), ""),
        is_root=probe.is_root,
    )


def _groups(text: str) -> dict[int, str]:
    fields = [line.split(":") for line in text.splitlines()]
    return {int(field[2]): field[0] for field in fields if len(field) >= 3 and field[2].isdecimal()}


def checks(access: Access, units: Units) -> list[Check]:
    found = [_group(access, units)]
    socket = _socket(access, units)
    found += [socket] if socket else []
    if access.mode is not None and stat.S_ISSOCK(access.mode) and not access.may_write:
        found.append(
            note(
                "access.you",
                "you may not use Docker: you are not of the socket's group",
                f"`usermod -aG {access.groups.get(access.group, GROUP)} $USER` as root, then log in anew",
            )
        )
    if access.client:
        found.append(
            note("access.client", f"{access.client} is set: `docker` does not use this host's socket", "nothing, if that is meant")
        )
    return found


def _group(access: Access, units: Units) -> Check:
    name = "access.group"
    if access.has_group:
        return ok(name, f"the group {GROUP} is there")
    if not units.set_up:
        return note(name, f"the group {GROUP} is not there yet", "`skim setup` makes it")
    return error(
        name,
        f"the group {GROUP} is missing: docker.socket does not start",
        "`systemd-sysusers /etc/sysusers.d/skim.conf` (or `groupadd --system docker`), then `systemctl restart docker.socket`",
    )


def _socket(access: Access, units: Units) -> Check | None:
    name = "access.socket"
    listening = units.socket.active == "active" or units.service.active == "active"
    if access.mode is None:
        if units.asked and listening:
            return error(name, f"{SOCKET} is missing, though docker.socket is active: somebody removed it", _RESTART)
        return None
    if stat.S_ISDIR(access.mode):
        return error(
            name,
            f"{SOCKET} is a directory: a container that mounts it was started while Docker was not listening",
            f"`systemctl stop docker docker.socket`, `rmdir {SOCKET}`, `systemctl start docker.socket`",
        )
    if not stat.S_ISSOCK(access.mode):
        return error(name, f"{SOCKET} is no socket", f"`rm {SOCKET}`, then `{_RESTART}`")
    return _rights(access, units)


def _rights(access: Access, units: Units) -> Check:
    name = "access.socket"
    mode = stat.S_IMODE(access.mode or 0)
    group = access.groups.get(access.group, str(access.group))
    shown = f"{SOCKET} is {mode:04o} {'root' if access.owner == 0 else access.owner}:{group}"
    wanted_group = units.socket.group or GROUP
    wanted_mode = int(units.socket.mode or "0660", 8)
    mend = f"`{_RESTART}`, or `chgrp {wanted_group} {SOCKET} && chmod {wanted_mode:04o} {SOCKET}`"
    if mode & stat.S_IWOTH:
        if wanted_mode & stat.S_IWOTH:
            mend = "take SocketMode= out of the drop-in of docker.socket (`systemctl cat docker.socket`), " + mend.partition(",")[0]
        return error(name, f"{shown}: everybody on this host may become root by it", mend)
    if group != wanted_group:
        return warning(name, f"{shown}, not of the group {wanted_group}, whose members cannot use it", mend)
    if not mode & stat.S_IWGRP and wanted_mode & stat.S_IWGRP:
        return warning(name, f"{shown}: members of {group} cannot use it", mend)
    return ok(name, shown)
