"""What is around Docker on the host: programs, commands and daemons in its way, the network's settings, security modules."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, note, ok, warning
from engine.doctor.probe import HOST_PATH

if TYPE_CHECKING:
    from engine.doctor.probe import FileSystem, Probe
    from engine.doctor.settings import Settings
    from engine.doctor.units import Units

_REQUIRED = {"flock": "util-linux", "iptables": "iptables", "modprobe": "kmod"}
_OPTIONAL = {
    "ip6tables": ("iptables", "IPv6 networks of containers are not filtered"),
    "nft": ("nftables", '"firewall-backend": "nftables" is not to be had'),
    "ps": ("procps", "`docker top` fails"),
    "git": ("git", "`docker build` takes no git repository"),
}
_DAEMONS = ("dockerd", "containerd")
_PACKAGED = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/bin/docker", "/usr/bin/containerd", "/snap/bin/docker")


class Foreign(NamedTuple):
    """A daemon that is not the pod's: its number, name and arguments."""

    pid: int
    name: str
    words: tuple[str, ...]


class Surroundings(NamedTuple):
    """`programs` by name, "" for none; `iptables`: `nft`, `legacy` or "". Texts of settings are as the kernel writes them, "" for none."""

    programs: dict[str, str]
    iptables: str
    legacy_tables: tuple[str, ...]
    first_docker: str
    first_is_ours: bool
    ours_on_path: bool
    packaged: tuple[str, ...]
    daemons: tuple[Foreign, ...]
    takes_modules: bool
    forward: str
    bridge_iptables: str
    apparmor: bool
    selinux: str
    run: FileSystem
    usr: FileSystem


def gather(probe: Probe, path: str) -> Surroundings:
    """`path` is the PATH of who asks."""
    image = probe.layout.engine_root("docker").removeprefix(probe.layout.root)
    directories = (f"{image}/usr/sbin", f"{image}/usr/bin", *HOST_PATH)
    names = (*_REQUIRED, *_OPTIONAL, "apparmor_parser")
    programs = {name: probe.find_program(name, HOST_PATH if name in _REQUIRED else directories) for name in names}
    dockers = [
        found for folder in path.split(":") if folder.startswith("/") and probe.is_executable(found := f"{folder.rstrip('/')}/docker")
    ]
    ours = [found for found in dockers if _is_ours(probe, found)]
    return Surroundings(
        programs=programs,
        iptables=_flavour(probe.real(programs["iptables"])) if programs["iptables"] else "",
        legacy_tables=tuple((probe.text("/proc/net/ip_tables_names") or "").split()),
        first_docker=dockers[0] if dockers else "",
        first_is_ours=bool(ours) and dockers[0] == ours[0],
        ours_on_path=bool(ours),
        packaged=tuple(found for found in _PACKAGED if probe.exists(found) and not _is_ours(probe, found)),
        daemons=tuple(_daemons(probe)),
        takes_modules=probe.exists("/proc/modules"),
        forward=probe.word("/proc/sys/net/ipv4/ip_forward"),
        bridge_iptables=probe.word("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        apparmor=probe.word("/sys/module/apparmor/parameters/enabled") == "Y",
        selinux={"1": "enforcing", "0": "permissive"}.get(probe.word("/sys/fs/selinux/enforce"), ""),
        run=probe.file_system("/run"),
        usr=probe.file_system("/usr"),
    )


def _is_ours(probe: Probe, path: str) -> bool:
    """Whether a command is the appliance's: a link to it, or into the engine."""
    prefix = probe.layout.prefix + "/"
    return probe.real(path).startswith((prefix, "/run/skim/", "/var/lib/rkt/")) or probe.link(path).startswith((prefix, "/run/skim/"))


def _flavour(path: str) -> str:
    name = os.path.basename(path)
    return "nft" if "nft" in name else "legacy" if "legacy" in name or name.startswith("xtables") else ""


def _daemons(probe: Probe) -> list[Foreign]:
    """Those outside the docker pod, in our own PID namespace: what runs in a container is nobody's business."""
    found = []
    for name in probe.names("/proc"):
        if not name.isdigit() or probe.word(f"/proc/{name}/comm") not in _DAEMONS:
            continue
        status = dict(line.partition(":")[::2] for line in (probe.text(f"/proc/{name}/status") or "").splitlines())
        if len(status.get("NStgid", "").split()) > 1 or "-rkt-" in (probe.text(f"/proc/{name}/cgroup") or ""):
            continue
        words = (probe.text(f"/proc/{name}/cmdline") or "").split("\0")
        found.append(Foreign(int(name), probe.word(f"/proc/{name}/comm"), tuple(words[:-1])))
    return found


def checks(around: Surroundings, settings: Settings, units: Units) -> list[Check]:
    found = [*_programs(around, settings), *_iptables(around, settings), *_commands(around, units), *_daemon_checks(around, units)]
    return [*found, *_network(around, settings, units), *_security(around), *_file_systems(around)]


def _programs(around: Surroundings, settings: Settings) -> list[Check]:
    needed = [
        name
        for name in _REQUIRED
        if not ((name == "modprobe" and not around.takes_modules) or (name == "iptables" and settings.is_off("iptables")))
    ]
    missing = [name for name in needed if not around.programs[name]]
    found = []
    for name in missing:
        found.append(error(f"host.{name}", f"{name} is not on this host", f"install the package {_REQUIRED[name]}"))
    if not missing:
        found.append(ok("host.programs", f"programs that Docker runs: {', '.join(around.programs[name] for name in needed)}"))
    for name, (package, without) in _OPTIONAL.items():
        if not around.programs[name]:
            found.append(note(f"host.{name}", f"{name} is not on this host: {without}", f"install the package {package}, if it is wanted"))
    return found


def _iptables(around: Surroundings, settings: Settings) -> list[Check]:
    name = "host.iptables-kind"
    if settings.is_off("iptables"):
        return [
            note(name, '"iptables" is off: Docker publishes no port and translates no address', "nothing, if you make the rules yourself")
        ]
    if around.iptables == "nft" and around.legacy_tables:
        tables = ", ".join(around.legacy_tables)
        return [
            warning(
                name,
                f"iptables writes to nf_tables, but the kernel has legacy tables, too ({tables}): rules in both act on every packet",
                "let all programs use one: `update-alternatives --config iptables`, then reboot",
            )
        ]
    return [ok(name, f"iptables is of the kind {around.iptables}")] if around.iptables else []


def _commands(around: Surroundings, units: Units) -> list[Check]:
    found = []
    if not around.ours_on_path:
        what = "`docker` of the appliance is not on your PATH" + (f", {around.first_docker} is" if around.first_docker else "")
        do = "put /usr/local/bin (or /opt/bin, where /usr is read-only) first on PATH, or install the appliance again"
        found.append(warning("host.command", what, do))
    elif not around.first_is_ours:
        what = f"{around.first_docker} comes before the appliance's `docker` on your PATH"
        found.append(
            warning("host.command", what, f"remove {around.first_docker}, or put /usr/local/bin before it on PATH; then `hash -r`")
        )
    else:
        found.append(ok("host.command", f"`docker` is {around.first_docker}, the appliance's"))
    if around.packaged:
        what = f"another Docker is installed, too: {', '.join(around.packaged)}"
        do = "nothing: ours comes first; or remove the other package (docker.io, docker-ce, containerd), its data stays"
        found.append(note("host.packages", what, do if units.set_up else "nothing: `skim setup` takes its data and its socket over"))
    return found


def _daemon_checks(around: Surroundings, units: Units) -> list[Check]:
    found = []
    for daemon in around.daemons:
        name = f"host.other-{daemon.name}"
        what = f"another {daemon.name} runs outside the docker pod: process {daemon.pid}, `{' '.join(daemon.words)[:120]}`"
        apart = any(word.startswith(("--data-root", "-g", "--graph", "--root", "--config", "-c")) for word in daemon.words)
        stop = f"stop its unit (`systemctl status {daemon.pid}` names it), or `kill {daemon.pid}`; then `systemctl start docker`"
        if apart:
            found.append(note(name, f"{what}, with a directory of its own", "nothing, if that is meant and its socket is another, too"))
        elif not units.set_up:
            found.append(warning(name, what, f"before the first start of the appliance: {stop.partition(';')[0]}; its data is taken over"))
        else:
            found.append(error(name, f"{what}: both want the same data and the same socket", stop))
    return found


def _network(around: Surroundings, settings: Settings, units: Units) -> list[Check]:
    running = units.service.active == "active"
    found = []
    if around.forward == "1":
        found.append(ok("host.forwarding", "IP forwarding is on"))
    elif settings.is_off("ip-forward") or running:
        what = "IP forwarding is off: containers reach nothing outside this host"
        do = "`sysctl -w net.ipv4.ip_forward=1`, and look for what turned it off in /etc/sysctl.d and /etc/sysctl.conf"
        found.append(warning("host.forwarding", what, do))
    else:
        found.append(ok("host.forwarding", "IP forwarding is off; dockerd turns it on"))
    if running and around.bridge_iptables == "0":
        make = warning if settings.is_off("icc") else note
        what = "bridge-nf-call-iptables is 0: packets between containers on one bridge pass no rule of iptables"
        found.append(make("host.bridge-filter", what, "`sysctl -w net.bridge.bridge-nf-call-iptables=1`, if they should"))
    return found


def _security(around: Surroundings) -> list[Check]:
    found = []
    if around.apparmor and not around.programs["apparmor_parser"]:
        what = "AppArmor is on, but apparmor_parser is missing: containers run without Docker's profile, or do not start"
        found.append(warning("host.apparmor", what, "install the package apparmor, then `systemctl restart docker`"))
    else:
        found.append(ok("host.apparmor", f"AppArmor is {'on: containers get the profile docker-default' if around.apparmor else 'off'}"))
    if around.selinux == "enforcing":
        what = (
            "SELinux is enforcing: the daemons run in the domain of docker.service's script, containers unlabelled without selinux-enabled"
        )
        do = '`ausearch -m avc -ts recent` shows what is denied; `"selinux-enabled": true` needs the package container-selinux'
        found.append(note("host.selinux", what, do))
    else:
        found.append(ok("host.selinux", f"SELinux is {around.selinux or 'off'}"))
    return found


def _file_systems(around: Surroundings) -> list[Check]:
    found = []
    if around.run.noexec:
        what = "/run is mounted noexec: the engine's own mounts below it are not, but hooks and plugins that others keep there do not run"
        found.append(note("host.run-noexec", what, "nothing, if that is meant; else `mount -o remount,exec /run`"))
    if around.usr.read_only:
        what = "/usr is read-only: commands are in /opt/bin, plugins are not linked"
        found.append(note("host.usr-read-only", what, 'nothing; for plugins, set "cliPluginsExtraDirs" in ~/.docker/config.json'))
    return found
