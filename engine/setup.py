"""`skim setup`: the images named in the configuration become this host's Docker. May be run again at any time."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from appc.errors import UserError
from engine import before, commands, host, host_docker, images, links, takeover
from engine.alone import alone
from engine.configuration import read_configuration
from engine.layout import APPS
from engine.mount_units import binds, library_units, mount_units, present_units
from engine.progress import Progress
from engine.record import Engine, engine_text, read_engine, write_atomically
from engine.takeover_plan import downgrade_lines, plan_lines
from linux.process import run

if TYPE_CHECKING:
    from engine.configuration import Configuration
    from engine.host_docker import HostDocker
    from engine.layout import Layout
    from engine.mount_units import Bind


@alone
def setup(layout: Layout) -> None:
    """Raises UserError. Whatever fails, the engine that was active, or else the Docker that the host has of its own, stays active."""
    host.require_root("setup")
    host.require_systemd(layout)
    configuration = read_configuration(layout.configuration)
    former = _former_engine(layout)
    first = (former is None or takeover.is_unfinished(layout)) and not takeover.is_ours_running(layout)
    theirs = host_docker.look(layout)
    progress = Progress("setup", 5, _after_failure(former, theirs))
    for line in _said_beforehand(layout, theirs) if first or theirs.running else []:
        progress.say(line)

    with progress.step("the group docker, directories"):
        os.makedirs(layout.state, mode=0o755, exist_ok=True)
        known = before.remember(layout)
        if first:
            takeover.begin(layout)
        else:
            takeover.renew(layout)
        run(["systemd-sysusers", layout.at("/etc/sysusers.d/skim.conf")], capture=True)
        run(["systemd-tmpfiles", "--create", layout.at("/etc/tmpfiles.d/skim.conf")], capture=True)
    with progress.step("images into the store"):
        engine = _fetch_all(layout, configuration, progress)
        for line in downgrade_lines(former.docker.version if former else theirs.version, engine.docker.version):
            progress.say(f"      {line}")
    with ExitStack() as undo:
        with progress.step("mounts of the installed engine"):
            units = _present_units(layout)
            _switch(layout, engine, undo)
        with progress.step("docker.service and docker.socket"):
            if first or theirs.running:
                takeover.change_over(layout, known, theirs, progress, undo)
            else:
                takeover.offer_socket()
        undo.pop_all()
    _drop_stale(layout, engine, list(units), progress)
    with progress.step("the client, its plugins, completions and manual pages"):
        _lead_to_engine(layout)
        for line in [*commands.link(layout), *links.link(layout)]:
            progress.say(line)
        takeover.finish(layout)
    progress.say(f"done: {engine.docker.name} {engine.docker.version}, {engine.containerd.name} {engine.containerd.version}")
    progress.say(_next_step(former, engine, changed_over=first))


def show_plan(layout: Layout) -> None:
    """What `setup` would take over and stop. Changes nothing."""
    theirs = host_docker.look(layout)
    former = _former_engine(layout)
    lines = _said_beforehand(layout, theirs) if former is None or theirs.running else []
    if former:
        lines.append(
            f"set up here: {former.docker.name} {former.docker.version}; setup puts what {layout.configuration} names in its place"
        )
    for line in lines or ["there is no Docker here yet: nothing is taken over, and nothing stops"]:
        sys.stdout.write(f"skim setup: {line}\n")


def _said_beforehand(layout: Layout, theirs: HostDocker) -> list[str]:
    return [*plan_lines(theirs), *takeover.check_drop_ins(layout, theirs)]


def _after_failure(former: Engine | None, theirs: HostDocker) -> str:
    if theirs.running:
        return f"Docker {theirs.version} of the host runs as before"
    return "the former engine stays active" if former else "no engine is active"


def _former_engine(layout: Layout) -> Engine | None:
    """A damaged record is no reason not to write a new one."""
    try:
        return read_engine(layout.record)
    except UserError:
        return None


def _fetch_all(layout: Layout, configuration: Configuration, progress: Progress) -> Engine:
    found = []
    for path in configuration:
        progress.say(f"      {path} ({os.path.getsize(path) / 1e6:.1f} MB)")
        found.append(images.fetch(layout, path))
    return Engine(*found)


def _switch(layout: Layout, engine: Engine, undo: ExitStack) -> None:
    """Replace the mount units, try the programs behind them, and only then record the engine. `undo` takes all of it back."""
    wanted = mount_units(engine)
    former = _present_units(layout)
    former_engine = _former_engine(layout)
    undo.callback(_return_to, layout, former, wanted, former_engine)
    changed = _write_units(layout, wanted)
    if changed:
        host.systemctl("daemon-reload")
    host.systemctl("enable", *wanted)
    # Only what is down is started: to start a mount that is up asks again for the device below it, which a container does not have.
    down = {name for name, bind in binds(engine).items() if not host.is_active(name) or _shows_another(layout, bind)}
    _restart([name for name in wanted if name in changed or name in down])
    _try_programs(layout)
    # Both until the record says which: whenever this is interrupted, the active engine is among them.
    _keep(layout, engine, *([former_engine] if former_engine else []))
    write_atomically(layout.record, engine_text(engine))


def _drop_stale(layout: Layout, engine: Engine, former: list[str], progress: Progress) -> None:
    """What of the former engine nobody needs now."""
    _keep(layout, engine)
    wanted = mount_units(engine)
    stale = [name for name in former if name not in wanted]
    if stale and host.is_active("docker.service"):
        # The pod that runs was started with them, and its programs look there until it ends.
        progress.say(f"      {len(stale)} library mount(s) of the former engine stay until the next setup: docker is running")
    elif stale:
        _drop_units(layout, stale)
        host.systemctl("daemon-reload")


def _keep(layout: Layout, *engines: Engine) -> None:
    os.makedirs(os.path.dirname(layout.roots), exist_ok=True)
    keys = dict.fromkeys(image.id for engine in engines for image in engine)
    write_atomically(layout.roots, "".join(f"{key}\n" for key in keys))


def _present_units(layout: Layout) -> dict[str, str]:
    return {name: _content(os.path.join(layout.units, name)) or "" for name in present_units(layout.units)}


def _write_units(layout: Layout, texts: dict[str, str]) -> list[str]:
    """Write what differs from what is there; returns the names of those."""
    os.makedirs(layout.units, mode=0o755, exist_ok=True)
    changed = [name for name, text in texts.items() if _content(os.path.join(layout.units, name)) != text]
    for name in changed:
        write_atomically(os.path.join(layout.units, name), texts[name])
    return changed


def _shows_another(layout: Layout, bind: Bind) -> bool:
    """Whether the mount is of a tree that has been removed and rendered anew since: it would stay empty."""
    try:
        return not os.path.samefile(layout.at(bind.where), layout.at(bind.what))
    except FileNotFoundError:
        return False


def _restart(units: list[str]) -> None:
    libraries = library_units(units)
    for group in (libraries, [name for name in units if name not in libraries]):  # programs are of no use before their libraries
        if group:
            host.systemctl("restart", *group)


def _drop_units(layout: Layout, names: list[str]) -> None:
    host.try_systemctl("disable", "--now", *names)
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(layout.units, name))


def _return_to(layout: Layout, former: dict[str, str], attempted: dict[str, str], engine: Engine | None) -> None:
    """After a failure: record, units and mounts of before. Does what it can; the error that led here is the one to report."""
    if engine:
        write_atomically(layout.record, engine_text(engine))
    else:
        with suppress(FileNotFoundError):
            os.unlink(layout.record)
    new = [name for name in attempted if name not in former]
    if new:
        _drop_units(layout, new)
    changed = _write_units(layout, former)
    host.try_systemctl("daemon-reload")
    if changed:
        host.try_systemctl("restart", *changed)


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _try_programs(layout: Layout) -> None:
    """Run one program of each app: a missing library or a wrong architecture shows here and not when Docker is needed."""
    for app, program in zip(APPS, ("usr/bin/containerd", "usr/bin/docker"), strict=True):
        run([os.path.join(layout.engine_root(app), program), "--version"], capture=True)


def _lead_to_engine(layout: Layout) -> None:
    """Unless a pod runs, `docker` comes out of the installed engine."""
    try:
        target = os.readlink(layout.way)
    except FileNotFoundError:
        target = ""
    if target and os.path.isdir(os.path.join(layout.run, target)):
        return
    with suppress(FileNotFoundError):
        os.unlink(f"{layout.way}.next")
    os.symlink("engine", f"{layout.way}.next")
    os.replace(f"{layout.way}.next", layout.way)


def _next_step(former: Engine | None, engine: Engine, *, changed_over: bool) -> str:
    if not host.is_active("docker.service"):
        return "`systemctl start docker` starts it; so does the first use of the socket"
    if former == engine or changed_over:
        return "docker is running with it"
    return "docker still runs what it was started with: `systemctl restart docker` changes over"
