"""The change-over from a host's own Docker to the engine, and the way back."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from appc.errors import UserError
from engine import before, docker_api, host, host_docker, own_units
from engine.record import write_atomically
from engine.takeover_plan import drop_in_line
from linux.process import run

if TYPE_CHECKING:
    from contextlib import ExitStack

    from engine.before import Before
    from engine.host_docker import HostDocker
    from engine.layout import Layout
    from engine.progress import Progress

_RUNNING = "docker was running\n"
_TELLING = re.compile(r"failed to start daemon|level=fatal|^Status: |^(dockerd|run|rkt): |^unable to ")


def is_ours_running(layout: Layout) -> bool:
    return host.is_active("docker.service") and not host_docker.is_running(layout)


def begin(layout: Layout, *, running: bool = False) -> None:
    """Note that a first setup, or a removal, has begun: until its end the next setup is a first one, and starts a Docker that ran."""
    if os.path.isdir(layout.state) and not _was_running(layout):
        write_atomically(layout.unfinished, _RUNNING if running else "")


def is_unfinished(layout: Layout) -> bool:
    return os.path.exists(layout.unfinished)


def finish(layout: Layout) -> None:
    if is_unfinished(layout):
        os.unlink(layout.unfinished)


def check_drop_ins(layout: Layout, theirs: HostDocker) -> list[str]:
    """Warnings. Raises UserError if one would bring their dockerd up again in the place of ours, with containers that it does not know."""
    lines = [drop_in_line(path, program) for path, program in host_docker.foreign_drop_ins(layout).items()]
    if lines and theirs.running:
        raise UserError("; ".join(lines), hint="nothing was changed; that line serves the present Docker as well")
    return [f"warning: {line}" for line in lines]


def change_over(layout: Layout, known: Before, theirs: HostDocker, progress: Progress, undo: ExitStack) -> None:
    """Their Docker stops, our units take its place, and what ran runs again. Raises UserError; `undo` then gives everything back."""
    running = theirs.running or _was_running(layout)
    begin(layout, running=running)
    undo.callback(give_back, layout, known, _to_start(known, running=running))
    # A containerd without a running Docker serves somebody else, who can keep it until docker is started.
    up = [unit for unit in (host_docker.UNITS if running else before.OWN) if host.is_active(unit)]
    if up:
        # Before systemd hears of our units: theirs say that containers are not to be killed with the daemon.
        progress.say(f"      of the host stop now: {', '.join(up)}")
        host.systemctl("stop", *up)
    if host.try_systemctl("is-enabled", "containerd.service"):
        # Two containerd on one socket and one state directory: at boot it would be chance which of the units gets to run.
        progress.say("      containerd.service of the host is disabled: the pod brings its own (`skim remove` enables it again)")
        host.systemctl("disable", "containerd.service")
    for line in own_units.set_aside(layout, known):
        progress.say(line)
    own_units.place(layout)
    host.systemctl("daemon-reload")
    if enabled := _to_enable(known, theirs):
        host.systemctl("enable", *enabled)
    if len(enabled) < len(before.OWN):
        progress.say("      docker was not enabled to start at boot, and is not: `systemctl enable docker.service docker.socket`")
    if running:
        _start(layout, progress)
    elif not theirs.unit or "docker.socket" in known.active:
        host.systemctl("start", "docker.socket")


def renew(layout: Layout) -> None:
    """Of an installed engine: units that differ from those that came with the files are written anew. Enabled or not, they stay so."""
    if own_units.place(layout):
        host.systemctl("daemon-reload")
    lost = [unit for unit, path in before.ENABLING_LINKS.items() if os.path.islink(layout.at(path)) and not os.path.exists(layout.at(path))]
    if lost:  # they led to where an older version had its units
        host.systemctl("enable", *lost)


def offer_socket() -> None:
    """Of an installed engine: as at a boot, so that Docker starts when it is used, unless that was switched off."""
    if not host.is_active("docker.service") and host.try_systemctl("is-enabled", "docker.socket"):
        host.systemctl("start", "docker.socket")


def give_back(layout: Layout, known: Before, start: list[str]) -> list[str]:
    """Everything about units as it was before the first setup, and those of `start` started; returns what could not be, as lines."""
    if not host_docker.is_running(layout):
        host.try_systemctl("stop", *before.OWN)
        run([layout.collect_pods, "--ended"], check=False, capture=True)
    own_units.withdraw(layout)
    lines = own_units.put_back(layout, known)
    lines += before.restore_units(layout, known)
    host.try_systemctl("daemon-reload")
    host.try_systemctl("reset-failed", *before.OWN)
    down = [unit for unit in start if not host.is_active(unit)]
    if down and not host.try_systemctl("start", *down):
        lines.append(f"{', '.join(down)} could not be started again: `systemctl status {' '.join(down)}`")
    return lines


def to_start_after_removal(layout: Layout, known: Before) -> list[str]:
    """What of the host's own Docker is up after `skim remove`: what was before the first setup, and what of ours is now."""
    if not host_docker.vendor_unit(layout) and not known.aside:
        return []
    running = _was_running(layout) or host.is_active("docker.service")
    found = _to_start(known, running=running)
    return [*found, "docker.socket"] if "docker.socket" not in found and host.is_active("docker.socket") else found


def _to_start(known: Before, *, running: bool) -> list[str]:
    wanted = {*known.active, *(before.OWN if running else ())}
    return [unit for unit in ("containerd.service", "docker.socket", "docker.service") if unit in wanted]


def _to_enable(known: Before, theirs: HostDocker) -> list[str]:
    """As theirs were. One that was masked was so for the sake of another Docker, which is ours now."""
    if not theirs.unit or before.MASK in known.aside.values():
        return list(before.OWN)
    return [unit for unit in before.OWN if before.ENABLING_LINKS[unit] in known.links]


def _was_running(layout: Layout) -> bool:
    """Whether a setup that was killed had stopped a Docker that ran."""
    try:
        with open(layout.unfinished, encoding="utf-8") as file:
            return file.read() == _RUNNING
    except FileNotFoundError:
        return False


def _start(layout: Layout, progress: Progress) -> None:
    began = time.time()
    progress.say("      docker.service starts with the engine")
    if not host.try_systemctl("start", "docker.service"):
        raise UserError(f"docker does not start with the engine: {_last_words(began)}")
    info = docker_api.get(layout, "/info")
    if info is None:
        raise UserError("docker has started with the engine, but does not answer at /run/docker.sock")
    progress.say(f"      it answers: {info['ContainersRunning']} of {info['Containers']} container(s) running, {info['Images']} image(s)")


def _last_words(began: float) -> str:
    """What dockerd, or whatever ran before it, said last."""
    run(["journalctl", "--sync"], check=False, capture=True)
    command = ["journalctl", "--unit=docker.service", f"--since=@{began:.3f}", "--output=cat", "--no-pager"]
    lines = run(command, check=False, capture=True).stdout.splitlines()
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or ["`journalctl -u docker` says why"])[-1].removeprefix("Status: ")
