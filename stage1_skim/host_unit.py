"""The unit of the host that an app stands for (annotation skim/host-unit), as dockerd does for docker.service.

Whoever writes `LimitNOFILE=` or `MemoryMax=` into a drop-in of docker.service means dockerd, which has a unit of its own here. So what the
host's unit says of its process is said again in the app's. What it says of itself as a service (how it starts and stops, its environment,
which reaches the app by `rkt run`) stays there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from poddir import annotations as names
from stage1_skim.dropin import logical_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stage1_skim.pod import Pod
    from stage1_skim.systemd import Manager

_START_LIMIT = ("StartLimitBurst", "StartLimitIntervalSec")
# Of systemd.service(5), systemd.kill(5) and systemd.exec(5): how the host's own unit runs, or what reaches the app in another way.
_ITS_OWN = frozenset(
    (
        "BusName",
        "Delegate",
        "Environment",
        "EnvironmentFile",
        "ExitType",
        "FileDescriptorStoreMax",
        "FinalKillSignal",
        "GuessMainPID",
        "KillMode",
        "KillSignal",
        "NonBlocking",
        "NotifyAccess",
        "PIDFile",
        "PassEnvironment",
        "RemainAfterExit",
        "RestartKillSignal",
        "RuntimeMaxSec",
        "SendSIGHUP",
        "SendSIGKILL",
        "Sockets",
        "StandardError",
        "StandardInput",
        "StandardOutput",
        "TimeoutSec",
        "TimeoutStartSec",
        "Type",
        "UnsetEnvironment",
        "WatchdogSec",
    )
)
# What the pod's manifest says, or would break the pod: named in a warning.
_IMPOSSIBLE = frozenset(("DynamicUser", "Group", "RootDirectory", "RootImage", "Slice", "SupplementaryGroups", "User", "WorkingDirectory"))
_VENDOR = ("/lib/", "/usr/lib/", "/etc/systemd/system.attached/")


class UnitFile(NamedTuple):
    path: str
    text: str


class HostUnit(NamedTuple):
    """A unit's files in the order in which systemd reads them."""

    name: str
    files: tuple[UnitFile, ...]


def read_host_units(pod: Pod, manager: Manager) -> dict[str, HostUnit]:
    """By the app that stands for it. A file that has gone since systemd read it is no matter. Raises SystemdError."""
    found = {}
    for app in pod.apps:
        name = app.entry.annotation(names.SKIM_HOST_UNIT)
        if name:
            check_name(name)
            fragment, drop_ins = manager.unit_files(name)
            # Of the units themselves only an administrator's counts: what a daemon needs, its image knows better than a distribution.
            paths = [fragment] if fragment and not fragment.startswith(_VENDOR) else []
            found[app.name] = HostUnit(name=name, files=tuple(_read([*paths, *drop_ins])))
    return found


def _read(paths: list[str]) -> Iterator[UnitFile]:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                yield UnitFile(path=path, text=file.read())
        except OSError:
            continue


def drop_in_text(unit: HostUnit) -> str:
    """What the app's unit says because the host's does; first of all, that its lines are to be found under the host unit's name."""
    found: dict[str, list[str]] = {"Unit": [], "Service": [f"LogExtraFields=OBJECT_SYSTEMD_UNIT={unit.name}"]}
    for file in unit.files:
        for section, name, value in settings(file.text):
            if section in found and _is_passed_on(section, name):
                found[section].append(f"{name}={value}")
    return "".join(f"[{section}]\n" + "".join(f"{line}\n" for line in lines) for section, lines in found.items() if lines)


def warnings(units: Mapping[str, HostUnit]) -> list[str]:
    """What an app cannot take over, by its place."""
    return [
        f"{name}= in {file.path} holds for {unit.name} itself, not for app {app}"
        for app, unit in units.items()
        for file in unit.files
        for section, name, value in settings(file.text)
        if section == "Service" and name in _IMPOSSIBLE and value
    ]


def _is_passed_on(section: str, name: str) -> bool:
    if section == "Unit":
        return name in _START_LIMIT
    return not name.startswith("Exec") and name not in _ITS_OWN and name not in _IMPOSSIBLE


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of each setting of a unit's file."""
    section = ""
    for _, line in logical_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        name, equals, value = line.partition("=")
        if equals:
            yield section, name.strip(), value.strip()


def check_name(name: str) -> None:
    """Raises UserError if it cannot be a service's name."""
    if not name.endswith(".service") or "/" in name or any(char.isspace() or not char.isprintable() for char in name):
        raise UserError(f"annotation {names.SKIM_HOST_UNIT}: {name!r} is no name of a service")
