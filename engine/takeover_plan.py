"""What `skim setup` says before it takes a host's own Docker over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.host_docker import Containers, HostDocker

_SHOWN = 10


def plan_lines(theirs: HostDocker) -> list[str]:
    """Whose Docker is here, what is taken over, what stops and what goes on; nothing where no Docker is."""
    lines = _what_is_here(theirs) if theirs.program else []
    when = "" if theirs.running else " once docker is started"
    for namespace, count in theirs.others.items():
        lines.append(f"goes on: {count} container(s) of containerd's namespace {namespace}; the engine's containerd serves them{when}")
    return lines


def _what_is_here(theirs: HostDocker) -> list[str]:
    name = f"Docker {theirs.version}".rstrip()
    of = f" of the package {theirs.package}" if theirs.package else ""
    lines = [f"{name} is here ({theirs.program}{of}) and {'runs' if theirs.running else 'does not run'}"]
    if theirs.containers:
        lines.append(_what_it_has(theirs.containers))
    root = theirs.containers.root if theirs.containers else "/var/lib/docker"
    lines.append(f"taken over: {root} stays where it is, with images, volumes and containers; nothing is copied")
    lines.append("replaced: docker.service and docker.socket by ours; containerd.service is disabled. `skim remove` gives all of it back")
    if theirs.running:
        lines.append("stops: Docker, for seconds, once the engine has been unpacked and tried; if the engine does not start, it is back")
        lines += _what_happens_to_containers(theirs.containers)
    return lines


def _what_it_has(containers: Containers) -> str:
    running = len(containers.policies)
    has = f"it has {containers.total} container(s), {running} of them running, and {containers.images} image(s)"
    return f"{has}: {containers.driver}, {containers.root}"


def _what_happens_to_containers(containers: Containers | None) -> list[str]:
    if containers is None:
        return ["it does not answer, so nothing is known of its containers"]
    if not containers.policies:
        return []
    if containers.live_restore:
        return [f"goes on: {_listed(list(containers.policies))} (live-restore is on)"]
    again = [name for name, policy in containers.policies.items() if policy != "no"]
    down = [name for name, policy in containers.policies.items() if policy == "no"]
    lines = []
    if again:
        lines.append(f"stops and starts again, by restart policy: {_listed(again)}")
    if down:
        lines.append(f"stops and stays down, having no restart policy: {_listed(down)}")
    lines.append('`{"live-restore": true}` in /etc/docker/daemon.json and `systemctl reload docker` beforehand keep them running')
    return lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} container(s): {', '.join(names[:_SHOWN])}{more}"


def drop_in_line(path: str, program: str) -> str:
    return f"{path} starts {program}, not the engine: write `ExecStart=dockerd …` there, without a directory, with the same arguments"


def downgrade_lines(former: str, new: str) -> list[str]:
    """A warning if the engine is older than the Docker whose data it takes."""
    if former and new and _numbers(new) < _numbers(former):
        return [f"warning: the engine is {new}, older than the {former} that wrote the data so far: it may not read all of it"]
    return []


def _numbers(version: str) -> list[int]:
    """Of `20.10.24+dfsg1-1`: 20, 10, 24."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return [int(part) for part in found[1].split(".")] if found else []
