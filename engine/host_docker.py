"""The Docker that a host has of its own, such as a distribution's: whether it runs, and what is said before it is taken over."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import docker_api, host
from linux.process import ProgramError, run

if TYPE_CHECKING:
    from engine.layout import Layout

UNITS = ("docker.service", "docker.socket", "containerd.service")
_OF_PACKAGES = ("/usr/local/lib/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_OWN_NAMESPACES = ("moby", "plugins.moby", "buildkit")
_DROP_INS = tuple(f"{place}/docker.service.d" for place in ("/etc/systemd/system", "/run/systemd/system", *_OF_PACKAGES))


class Containers(NamedTuple):
    """What a running Docker has. `policies`: the restart policy of each running container, by name."""

    root: str
    driver: str
    images: int
    total: int
    policies: dict[str, str]
    live_restore: bool


class HostDocker(NamedTuple):
    """`unit`: the file of its docker.service, `program`: its dockerd, both "" where there is none; `package` is "" if dpkg knows of none.

    `containers` is None if it does not run or does not answer. `others`: running containers of other clients of containerd, by namespace.
    """

    unit: str
    program: str
    package: str
    version: str
    running: bool
    containers: Containers | None
    others: dict[str, int]


def look(layout: Layout) -> HostDocker:
    """The host as it is now; nothing is changed, and nothing started."""
    unit = vendor_unit(layout)
    running = _running_program(layout)
    program = running or _program_of(layout, unit)
    info = docker_api.get(layout, "/info") if running else None
    return HostDocker(
        unit=unit,
        program=program,
        package=_package_of(program) if program else "",
        version=info["ServerVersion"] if info else _version_of(layout, program),
        running=bool(running),
        containers=_containers(layout, info) if info else None,
        others=_others(layout) if host.is_active("containerd.service") else {},
    )


def vendor_unit(layout: Layout) -> str:
    """The file of a package's docker.service; "" if there is none."""
    return next((f"{place}/docker.service" for place in _OF_PACKAGES if os.path.exists(layout.at(f"{place}/docker.service"))), "")


def is_running(layout: Layout) -> bool:
    """Whether the docker.service that is up is not ours."""
    return bool(_running_program(layout))


def foreign_drop_ins(layout: Layout) -> dict[str, str]:
    """Drop-ins of docker.service whose ExecStart= names a dockerd that is not ours, and the name: they would start it in its place."""
    found = {}
    for directory in _DROP_INS:
        for name in sorted(os.listdir(layout.at(directory))) if os.path.isdir(layout.at(directory)) else []:
            path = f"{directory}/{name}"
            with contextlib.suppress(OSError), open(layout.at(path), encoding="utf-8", errors="replace") as file:
                for program in re.findall(r"^\s*ExecStart\s*=\s*[-@:+!]*(/\S*/dockerd)(?=\s|$)", file.read(), re.MULTILINE):
                    if not os.path.realpath(layout.at(program)).startswith(layout.at(layout.prefix) + "/"):
                        found[path] = program
    return found


def _running_program(layout: Layout) -> str:
    """The dockerd that is docker.service's main process: ours never is, a pod's is its supervisor."""
    shown = run(["systemctl", "show", "--property=ActiveState,MainPID", "docker.service"], check=False, capture=True).stdout
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if values.get("ActiveState") not in ("active", "reloading", "activating", "deactivating") or values.get("MainPID", "0") == "0":
        return ""
    try:
        program = os.readlink(layout.at(f"/proc/{values['MainPID']}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""
    return program if os.path.basename(program) == "dockerd" else ""


def _program_of(layout: Layout, unit: str) -> str:
    if not unit:
        return ""
    with open(layout.at(unit), encoding="utf-8", errors="replace") as file:
        found = re.search(r"^ExecStart=[-@:+!]*(/\S+)", file.read(), re.MULTILINE)
    return found[1] if found else ""


def _version_of(layout: Layout, program: str) -> str:
    if not program or not os.access(layout.at(program), os.X_OK):
        return ""
    with contextlib.suppress(ProgramError):
        said = run([layout.at(program), "--version"], check=False, capture=True).stdout
        if found := re.search(r"version ([^\s,]+)", said):
            return found[1]
    return ""


def _package_of(program: str) -> str:
    """`name version`, where dpkg knows."""
    with contextlib.suppress(ProgramError):
        name = run(["dpkg-query", "--search", program], check=False, capture=True).stdout.partition(":")[0].strip()
        if name:
            return run(["dpkg-query", "--show", "--showformat=${Package} ${Version}", name], check=False, capture=True).stdout.strip()
    return ""


def _containers(layout: Layout, info: dict[str, Any]) -> Containers:
    policies = {}
    for container in docker_api.get(layout, "/containers/json") or []:
        shown = docker_api.get(layout, f"/containers/{container['Id']}/json")
        if shown:  # it may have ended since
            policies[shown["Name"].removeprefix("/")] = shown["HostConfig"]["RestartPolicy"]["Name"] or "no"
    return Containers(
        root=info["DockerRootDir"],
        driver=info["Driver"],
        images=info["Images"],
        total=info["Containers"],
        policies=policies,
        live_restore=info["LiveRestoreEnabled"],
    )


def _others(layout: Layout) -> dict[str, int]:
    tasks = layout.at("/run/containerd/io.containerd.runtime.v2.task")
    found = {}
    for namespace in sorted(os.listdir(tasks)) if os.path.isdir(tasks) else []:
        count = len(os.listdir(os.path.join(tasks, namespace)))
        if count and namespace not in _OWN_NAMESPACES:
            found[namespace] = count
    return found
