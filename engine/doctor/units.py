"""docker.service, docker.socket and containerd.service: whose they are, what overrides them, and whether they are on."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, note, ok, unseen, warning

if TYPE_CHECKING:
    from engine.doctor.probe import Probe

SERVICE = "docker.service"
SOCKET = "docker.socket"
CONTAINERD = "containerd.service"
_NAMES = (SERVICE, SOCKET, CONTAINERD)
_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,ExecStart,Environment,EnvironmentFiles,"
    "SocketGroup,SocketMode"
)
# Where systemd looks before it looks anywhere else (systemd.unit(5)), the first wins.
_IN_FRONT = ("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/etc/systemd/system")


class Unit(NamedTuple):
    """A unit as systemd has it; from its file alone (`load` is "") where systemd cannot be asked."""

    name: str
    load: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    enabled: str = ""
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()
    stale: bool = False
    """Changed on disk since systemd read it."""
    program: str = ""
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    environment_files: tuple[str, ...] = ()
    group: str = ""
    mode: str = ""


class Units(NamedTuple):
    """`asked`: whether systemd answered. `systemd`: whether it runs this host. `set_up`: whether `skim setup` has been here."""

    systemd: bool
    asked: bool
    set_up: bool
    ours: str
    """The directory of the appliance's units."""
    dockerd: str
    """The appliance's `dockerd`, all links resolved."""
    service: Unit
    socket: Unit
    containerd: Unit
    program_kind: str
    """What docker.service runs: `ours`, `script` (that calls `dockerd`), `other`, `missing`, or "" where nothing is known."""
    resetting: str
    """The drop-in that sets ExecStart= of docker.service, if one does."""


def gather(probe: Probe) -> Units:
    shown = _ask(probe)
    units = [_with_unread(probe, shown[name]) if name in shown else _from_file(probe, name) for name in _NAMES]
    dockerd = probe.real(f"{probe.layout.prefix}/bin/dockerd")
    program = units[0].program
    resetting = [path for path in units[0].drop_ins if _sets_command(probe.text(path) or "")]
    return Units(
        systemd=probe.exists("/run/systemd/system"),
        asked=bool(shown),
        set_up=probe.exists("/var/lib/skim/before.json") or probe.exists("/var/lib/skim/engine.env"),
        ours=probe.layout.units.removeprefix(probe.layout.root),
        dockerd=dockerd,
        service=units[0],
        socket=units[1],
        containerd=units[2],
        program_kind=_kind(probe, program, dockerd) if program else "",
        resetting=resetting[-1] if resetting else "",
    )


def _ask(probe: Probe) -> dict[str, Unit]:
    """systemd's answer; nothing if it cannot be asked without waking somebody: others than root ask through D-Bus."""
    if not probe.is_root and not _bus_runs(probe):
        return {}
    done = probe.run(["systemctl", "show", *_NAMES, f"--property={_PROPERTIES}"])
    if done is None or done.status != 0:
        return {}
    units = [parse_shown(block) for block in done.stdout.split("\n\n") if block.strip()]
    return {unit.name: unit for unit in units}


def _bus_runs(probe: Probe) -> bool:
    return any(probe.word(f"/proc/{name}/comm") in ("dbus-daemon", "dbus-broker") for name in probe.names("/proc") if name.isdigit())


def parse_shown(text: str) -> Unit:
    """One unit of `systemctl show`."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and value:
            values.setdefault(name, []).append(value)

    def one(name: str) -> str:
        return values.get(name, [""])[-1]

    command = one("ExecStart")
    program = command.partition("path=")[2].partition(" ;")[0]
    words = command.partition("argv[]=")[2].partition(" ; ignore_errors=")[0].split()
    return Unit(
        name=one("Id"),
        load=one("LoadState"),
        active=one("ActiveState"),
        sub=one("SubState"),
        result=one("Result"),
        enabled=one("UnitFileState"),
        fragment=one("FragmentPath"),
        drop_ins=tuple(one("DropInPaths").split()),
        stale=one("NeedDaemonReload") == "yes",
        program=program,
        arguments=tuple(words[1:]),
        environment=tuple(_split(one("Environment"))),
        environment_files=tuple(value.rpartition(" (")[0] for value in values.get("EnvironmentFiles", [])),
        group=one("SocketGroup"),
        mode=one("SocketMode"),
    )


def _with_unread(probe: Probe, unit: Unit) -> Unit:
    """systemd itself does not notice (NeedDaemonReload=) a directory of drop-ins that came after it looked."""
    return unit._replace(stale=unit.stale or not set(_drop_ins(probe, unit.name)) <= set(unit.drop_ins))


def _drop_ins(probe: Probe, name: str) -> tuple[str, ...]:
    """The administrator's."""
    directory = f"/etc/systemd/system/{name}.d"
    paths = [f"{directory}/{file}" for file in probe.names(directory) if file.endswith(".conf")]
    return tuple(path for path in paths if probe.link(path) != "/dev/null")


def _from_file(probe: Probe, name: str) -> Unit:
    """What can be known without systemd: the file that it would take, and the drop-ins of the administrator's."""
    ours = probe.layout.units.removeprefix(probe.layout.root)
    directories = dict.fromkeys(("/etc/systemd/system", ours, "/usr/lib/systemd/system", "/lib/systemd/system"))
    path = next((f"{folder}/{name}" for folder in directories if probe.stat(f"{folder}/{name}", follow=False)), "")
    if path and probe.real(path) == "/dev/null":
        return Unit(name, fragment=path, enabled="masked")
    command: list[str] = []
    files: list[str] = []
    environment: list[str] = []
    for key, value in (line.strip().partition("=")[::2] for line in (probe.text(path) or "").splitlines()) if path else ():
        if key == "ExecStart":
            command = value.lstrip("-@:+!").split()
        elif key == "EnvironmentFile":
            files.append(value.lstrip("-"))
        elif key == "Environment":
            environment += _split(value)
    return Unit(
        name,
        fragment=path,
        drop_ins=_drop_ins(probe, name),
        program=command[0] if command else "",
        arguments=tuple(command[1:]),
        environment=tuple(environment),
        environment_files=tuple(files),
    )


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def _sets_command(text: str) -> bool:
    return any(line.strip().partition("=")[0].strip() == "ExecStart" for line in text.splitlines())


def _kind(probe: Probe, program: str, dockerd: str) -> str:
    if probe.real(program) == dockerd:
        return "ours"
    content = probe.bytes(program)
    if content is None:
        return "" if program in probe.denied else "missing"
    return "script" if content.startswith(b"#!") and b"dockerd" in content else "other"


def checks(units: Units) -> list[Check]:
    if not units.systemd:
        return [error("units.systemd", "systemd does not run this host (it is not PID 1)", "boot with systemd: docker.service needs it")]
    found = [ok("units.systemd", "systemd runs this host")]
    if not units.asked:
        found.append(unseen("units.state", "whether docker.service and docker.socket are on (systemd could not be asked)"))
    found += [_fragment(unit, units) for unit in (units.service, units.socket)]
    found += _overrides(units)
    if units.asked:
        found += [_enabled(units), _active(units.service), _socket(units), _containerd(units)]
    return found


def _fragment(unit: Unit, units: Units) -> Check:
    name = f"units.{unit.name.replace('.', '-')}-file"
    ours = f"{units.ours}/{unit.name}"
    if unit.load == "masked" or unit.enabled.startswith("masked"):
        return error(name, f"{unit.name} is masked: nothing can start it", f"systemctl unmask {unit.name}")
    if not units.set_up and unit.fragment != ours:
        return note(name, f"{unit.name} is {unit.fragment or 'not there'} so far", "`skim setup` puts the appliance's in place")
    if not unit.fragment:
        return error(name, f"there is no {unit.name}", "`skim setup` puts it in place")
    if unit.load not in ("", "loaded"):
        return error(name, f"systemd cannot load {unit.fragment}: {unit.load}", f"`systemd-analyze verify {unit.fragment}` says why")
    if unit.fragment == ours and (unit.name != SERVICE or units.program_kind != "other" or units.resetting):
        return ok(name, f"{unit.name} is the appliance's, {ours}")
    if os.path.dirname(unit.fragment) in _IN_FRONT:
        return error(
            name,
            f"{unit.fragment} is not the appliance's, and stands in front of it",
            f"move {unit.fragment} away (settings belong in a drop-in: `systemctl edit {unit.name}`), then `systemctl daemon-reload`"
            + (", and install the appliance again" if unit.fragment == ours else ""),
        )
    return error(
        name,
        f"{unit.name} is {unit.fragment}, not the appliance's {ours}",
        "`skim setup` puts it in place",
    )


def _overrides(units: Units) -> list[Check]:
    found = []
    for unit in (units.service, units.socket):
        if unit.stale:
            found.append(
                warning("units.reload", f"{unit.name} or a drop-in was changed, and systemd has not read it", "systemctl daemon-reload")
            )
            break
    listed = [path for unit in (units.service, units.socket) for path in unit.drop_ins]
    if listed:
        found.append(
            note("units.drop-ins", f"drop-ins: {', '.join(listed)}", "nothing, if they are meant; `systemctl cat docker` shows them")
        )
    else:
        found.append(ok("units.drop-ins", "no drop-ins"))
    is_ours = units.service.fragment == f"{units.ours}/{SERVICE}" and units.program_kind != "other"
    if units.program_kind and (units.resetting or is_ours):
        found.append(_command(units))
    return found


def _command(units: Units) -> Check:
    name = "units.command"
    program = units.service.program
    where = units.resetting or units.service.fragment
    if units.program_kind == "ours":
        return ok(name, f"docker.service starts the docker pod by {program}")
    if units.program_kind == "script":
        return note(name, f"{where} has docker.service run the script {program}", 'nothing, if it ends in `exec dockerd "$@"`')
    if units.program_kind == "missing":
        do = (
            f"let ExecStart= in {where} run {units.dockerd}"
            if units.resetting
            else "install the appliance again (`make install`, or its package)"
        )
        return error(name, f"{where} has docker.service run {program}, which is not there", do)
    return error(
        name,
        f"{where} has docker.service run {program}: another Docker, not the appliance",
        f"let ExecStart= in {where} run {units.dockerd} with the same arguments, then `systemctl daemon-reload`",
    )


def _enabled(units: Units) -> Check:
    name = "units.enabled"
    off = [unit.name for unit in (units.service, units.socket) if unit.enabled not in ("enabled", "enabled-runtime")]
    if not off:
        return ok(name, "docker.service and docker.socket are enabled: Docker is there after a boot")
    if not units.set_up:
        return note(name, "docker.service and docker.socket are not enabled yet", "`skim setup` enables them")
    masked = [unit for unit in off if (units.service if unit == SERVICE else units.socket).load == "masked"]
    why = "containers with --restart do not come back after a boot" if SERVICE in off else "Docker does not start by its socket"
    before = f"`systemctl unmask {' '.join(masked)}`, then " if masked else ""
    return warning(name, f"{' and '.join(off)} not enabled: {why}", f"{before}`systemctl enable {SERVICE} {SOCKET}`")


def _active(service: Unit) -> Check:
    name = "units.running"
    if service.active == "failed" or service.sub.startswith("auto-restart"):
        return error(
            name,
            f"docker.service has failed ({service.result or 'unknown reason'})"
            + ("" if service.active == "failed" else ", systemd is about to start it again"),
            "`journalctl -u docker` says why; then `systemctl reset-failed docker.service docker.socket && systemctl start docker`",
        )
    if service.active == "active":
        return ok(name, "docker.service is active")
    if service.active in ("activating", "deactivating", "reloading"):
        return note(name, f"docker.service is {service.active}", "wait; `systemctl status docker` and `journalctl -fu docker` show it")
    return note(name, "docker.service is not running", "`systemctl start docker`, if it should; the first use of its socket does it, too")


def _socket(units: Units) -> Check:
    name = "units.socket-running"
    unit = units.socket
    if unit.active == "active":
        return ok(name, "docker.socket listens")
    if unit.active == "failed":
        return error(
            name,
            f"docker.socket has failed ({unit.result or 'unknown reason'})",
            "`systemctl status docker.socket` says why; then `systemctl reset-failed docker.socket && systemctl restart docker.socket`",
        )
    if units.service.active == "active":
        return warning(name, "docker.socket is not active while Docker runs", "systemctl restart docker.socket docker.service")
    what = "docker.socket is not active: nothing starts Docker at its first use"
    return note(name, what, "`systemctl start docker.socket`" if units.set_up else "`skim setup` starts it")


def _containerd(units: Units) -> Check:
    name = "units.containerd"
    unit = units.containerd
    if unit.load in ("", "not-found", "masked"):
        return ok(name, "no containerd.service of somebody else's")
    enabled = unit.enabled in ("enabled", "enabled-runtime")
    if not units.set_up and (enabled or unit.active == "active"):
        return note(
            name,
            f"{unit.fragment} is {'enabled' if enabled else 'active'}: its socket is the one of Docker's own containerd",
            "nothing: `skim setup` disables it, and a start of docker stops it",
        )
    if enabled:
        return error(
            name,
            f"{unit.fragment} is enabled: it and Docker share one socket, and which of the two runs after a boot is chance",
            "`systemctl disable --now containerd`, then `systemctl start docker`",
        )
    if unit.active in ("active", "activating"):
        return error(
            name,
            f"{unit.fragment} runs, so Docker does not: they share one socket",
            "`systemctl stop containerd`, then `systemctl start docker`",
        )
    return note(name, f"{unit.fragment} is there, disabled", "nothing: leave it disabled, Docker's own containerd serves its socket")
