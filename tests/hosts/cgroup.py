"""A control group of a host's own in every hierarchy (version 1, 2 or both): what is started in it is found and ended as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PREFIX = "skim-host-"  # of every control group that is made here, and so of every one that may be removed


def create(name: str) -> list[Path]:
    """Make the control group `skim-host-<name>` below this process's own in every hierarchy, and return its directories."""
    made = []
    for parent in of("self"):
        group = parent / (PREFIX + name)
        group.mkdir(exist_ok=True)
        made.append(group)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new group has none, and takes no process until it has
            if (group / file).exists() and not (group / "cgroup.controllers").exists() and not (group / file).read_text().strip():
                (group / file).write_text((parent / file).read_text())
    return made


def join(groups: Iterable[Path], *, patience: float = 5.0) -> None:
    """Move this process into `groups` (made when missing); meant for a child before its exec.

    A host's systemd that starts up, or looks at its controllers again, removes groups that are empty and makes them anew: tried again.
    """
    until = time.monotonic() + patience
    for group in groups:
        while True:
            try:
                _join(group)
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)


def _join(group: Path) -> None:
    if not group.exists():
        os.makedirs(group, exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not (group / "cgroup.controllers").exists() and (group / file).exists() and not (group / file).read_text().strip():
            (group / file).write_text((group.parent / file).read_text())
    (group / "cgroup.procs").write_text("0")


def members(groups: Iterable[Path]) -> set[int]:
    """Ids of all processes in `groups` and below."""
    found: set[int] = set()
    for group in _deepest_first(groups):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found - {0}


def kill(groups: Sequence[Path], *, patience: float = 10.0) -> None:
    """Kill every process in `groups` and below, frozen ones too, until there is none. Raises TimeoutError after `patience` seconds."""
    _refuse_others(groups)
    until = time.monotonic() + patience
    while pids := members(groups):
        _thaw(groups)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise TimeoutError(f"processes {sorted(pids)} of {groups[0].name} do not die")
        time.sleep(0.01)


def remove(groups: Sequence[Path], *, patience: float = 10.0) -> None:
    """Kill what runs in `groups`, then remove them with all below. Groups that are gone already are fine."""
    kill(groups, patience=patience)
    until = time.monotonic() + patience
    for group in _deepest_first(groups):
        while True:
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)  # killed, but not reaped yet
                continue
            break


def _refuse_others(groups: Iterable[Path]) -> None:
    for group in groups:
        if not group.name.startswith(PREFIX) or not group.is_relative_to("/sys/fs/cgroup"):
            raise ValueError(f"{group} is no control group of a test host")


def _thaw(groups: Iterable[Path]) -> None:
    """A process in a frozen group of version 1 (a paused container) dies only when it is thawed."""
    for group in _deepest_first(groups):
        with contextlib.suppress(OSError):
            if (group / "freezer.state").exists():
                (group / "freezer.state").write_text("THAWED")


def _deepest_first(groups: Iterable[Path]) -> Iterator[Path]:
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            yield Path(folder)


def of(process: int | str) -> Iterator[Path]:
    """The directories of a process's control groups, one a hierarchy that is mounted (cgroups(7), proc(5))."""
    paths = {}
    for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
        number, controllers, own = line.split(":", 2)
        for controller in controllers.split(",") if number != "0" else ["unified"]:
            paths[controller] = own
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if match := re.match(r"cgroup(2?) \S+ (\S+)", after):
            options = ["unified"] if match[1] else match[2].split(",")
            path = next((paths[option] for option in options if option in paths), "")
            where = Path(before.split()[4])
            if path and (where / path.lstrip("/")).is_dir():
                yield where / path.lstrip("/")
