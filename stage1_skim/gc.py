"""The entrypoint `gc`: nothing of the pod is left on the host (contract section 3.2). Idempotent; right after a crash or a reboot too."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from appc.errors import UserError
from stage1_skim import arguments, systemd, take_down
from stage1_skim.arguments import BOOLEAN, STRING
from stage1_skim.places import UNIT_DIRECTORY, slice_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stage1_skim.systemd import Manager

_FLAGS = {"debug": BOOLEAN, "local-config": STRING}
_PATIENCE = 100.0  # seconds: a service has 90 by default before systemd kills it
_POLL_SECONDS = (0.002, 0.01, 0.05)
_CGROUPS = "/sys/fs/cgroup"


def main(words: Sequence[str]) -> int:
    """Returns 0. Raises UserError, with what could be removed removed."""
    given = arguments.parse(words, _FLAGS)
    uuid = arguments.pod_uuid(given)
    try:
        try:
            _end_units(uuid)
        finally:  # stage0 removes the pod whatever this says, so nobody comes again for the rest
            take_down.remove_units(UNIT_DIRECTORY, uuid)
            take_down.undo(uuid, os.getcwd())
            _remove_empty_groups(slice_name(uuid))
    except OSError as error:
        raise UserError(f"not all of the pod could be removed: {error.filename or ''}: {error.strerror}") from None
    return 0


def _end_units(uuid: str) -> None:
    with systemd.Manager() as manager:
        _end(manager, slice_name(uuid))
        removed = take_down.remove_units(UNIT_DIRECTORY, uuid)
        # systemd forgets a unit whose file is gone once nothing refers to it; only one that it still has costs a reload.
        loaded = [unit for unit in removed if manager.is_loaded(unit)]
        for unit in loaded:
            manager.reset_failed(unit)
        if any(manager.is_loaded(unit) for unit in loaded):
            manager.daemon_reload()


def _end(manager: Manager, name: str) -> None:
    """Stop what runs (a supervisor that was killed leaves apps behind for a moment), and wait for it: all of it is in the pod's slice."""
    deadline = time.monotonic() + _PATIENCE
    manager.stop_unit(name)
    polls = 0
    while manager.active_state(name) not in ("inactive", "failed"):
        if time.monotonic() > deadline:
            raise systemd.SystemdError(f"{name} did not stop within {_PATIENCE:.0f} s", hint=f"look at `systemctl status {name}`")
        time.sleep(_POLL_SECONDS[min(polls // 10, len(_POLL_SECONDS) - 1)])
        polls += 1


def _remove_empty_groups(name: str) -> None:
    """What systemd leaves of the pod's slice where processes outlived a unit (containers, once), in every hierarchy. What is not empty
    stays."""
    for group in (os.path.join(_CGROUPS, hierarchy, *_above(name), name) for hierarchy in ("", *_hierarchies())):
        for directory, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(directory)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY, errno.EROFS, errno.EPERM):
                    raise


def _above(name: str) -> list[str]:
    """The slices that a slice is in, by its name: a dash is a step down (systemd.slice(5))."""
    steps = name.removesuffix(".slice").split("-")[:-1]
    return ["-".join(steps[:count]) + ".slice" for count in range(1, len(steps) + 1)]


def _hierarchies() -> list[str]:
    """Mount points of control groups version 1; none where there is only version 2."""
    with os.scandir(_CGROUPS) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.endswith((".slice", ".scope"))
        )
