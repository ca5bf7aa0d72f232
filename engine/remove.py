"""`skim remove`: the host as it was before the first setup, but for Docker's own data in /var/lib/docker and /var/lib/containerd."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from appc.errors import UserError
from engine import before, commands, host, host_docker, links, own_units, takeover
from engine.alone import alone
from engine.mount_units import present_units
from engine.progress import Progress
from engine.record import read_engine
from linux.mount import mounts_below
from linux.process import run

if TYPE_CHECKING:
    from engine.before import Before
    from engine.layout import Layout
    from engine.record import Engine

# `image gc` with this takes the rendered trees that nobody refers to, and no image.
_CENTURY = "876000h"


@alone
def remove(layout: Layout) -> None:
    """Raises UserError. May be run again, also after it failed half-way and where nothing was set up."""
    host.require_root("remove")
    host.require_systemd(layout)
    progress = Progress("remove", 5, "run `skim remove` again")

    known = before.recall(layout)
    takeover.begin(layout, running=host.is_active("docker.service"))
    with progress.step("docker.service and docker.socket"):
        _give_back(layout, known, progress)
    with progress.step("the docker pod"):
        _remove_pods(layout)
    with progress.step("mounts of the installed engine"):
        _remove_mounts(layout)
        links.unlink(layout)
        commands.unlink(layout)
    with progress.step("images"):
        for line in _remove_images(layout):
            progress.say(line)
    with progress.step("state"):
        if known is not None:
            links.remove_directories(layout, known.directories)
            for line in before.restore(layout, known):
                progress.say(f"      {line}")
        shutil.rmtree(layout.state, ignore_errors=True)
        host.systemctl("daemon-reload")
    progress.say("done; /var/lib/docker and /var/lib/containerd are kept")


def _give_back(layout: Layout, known: Before | None, progress: Progress) -> None:
    """Our Docker stops, and the one that the host has of its own is in its place, running if either was."""
    start = takeover.to_start_after_removal(layout, known) if known else []
    if host_docker.is_running(layout):
        progress.say("      the Docker that runs is the host's own: it runs on")
    elif host.is_active("docker.service"):
        progress.say("      docker is running: it is stopped now")
    if not known:
        host.try_systemctl("stop", *before.OWN)
        host.try_systemctl("disable", *before.OWN)
        own_units.withdraw(layout)
        host.systemctl("daemon-reload")
    for line in takeover.give_back(layout, known, start) if known else []:
        progress.say(f"      {line}")
    if host.is_active("docker.service"):
        progress.say("      docker is running: the host's own, as before the setup")
    else:
        for line in _containers_left():
            progress.say(line)


def _containers_left() -> list[str]:
    """Containers of a Docker with live-restore outlive it, but not its runc: whoever removes the engine should know."""
    shims = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as file:
                shims += file.read().startswith("containerd-shim")
    return [f"      {shims} container(s) still run (live-restore); nothing can stop them cleanly once the engine is gone"] if shims else []


def _remove_pods(layout: Layout) -> None:
    if not os.path.isdir(layout.run) and not os.path.isdir(layout.state):
        return
    done = run([layout.collect_pods, "--ended"], check=False, capture=True)
    if done.status != 0:
        raise UserError(done.stderr.strip() or "a pod could not be removed", hint=f"`{layout.rkt} list` shows it")


def _remove_mounts(layout: Layout) -> None:
    units = present_units(layout.units)
    if units:
        host.systemctl("disable", "--now", *units)
    for name in units:
        os.unlink(os.path.join(layout.units, name))
    # Only what is empty goes: another pod of stage1_skim may have its ways here.
    for path in (layout.way, f"{layout.run}/docker.lock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    for directory in (f"{layout.run}/engine", f"{layout.run}/lib", f"{layout.run}/.lock", layout.run):
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(directory, name))
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    # The commands are there as long as the files are, and say what to do.
    table = layout.at("/etc/tmpfiles.d/skim.conf")
    if os.path.exists(table):
        run(["systemd-tmpfiles", "--create", f"--prefix={layout.run}", table], capture=True)


def _remove_images(layout: Layout) -> list[str]:
    """The whole data directory if setup made it and nobody else uses it; otherwise only the engine's images."""
    if not os.path.isdir(layout.data):
        return []
    pods = host.rkt(layout, "list", "--no-legend").strip()
    if pods:
        return [f"      {layout.data} stays: there are other pods in it"]
    engine = None
    with contextlib.suppress(UserError):  # a damaged record must not keep the rest from going
        engine = read_engine(layout.record)
    others = _images_of_others(layout, engine)
    known = before.recall(layout)
    if known is not None and not known.data and not others and not mounts_below(layout.data):
        shutil.rmtree(layout.data)
        return []
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.roots)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(layout.roots))
    if engine is not None:
        host.rkt(layout, "image", "rm", *dict.fromkeys(image.id for image in engine))
        host.rkt(layout, "image", "gc", f"--grace-period={_CENTURY}")
    return [f"      {layout.data} stays: there are other images in it, such as {others[0]}"] if others else []


def _images_of_others(layout: Layout, engine: Engine | None) -> list[str]:
    """Names of stored images that no engine's are, of any version."""
    ours = {image.name for image in engine} if engine else set()
    names = host.rkt(layout, "image", "list", "--fields=name", "--no-legend").split()
    return [name for name in names if name.partition(":")[0] not in ours and not name.startswith("skim/")]
