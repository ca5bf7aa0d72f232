"""The entrypoint `stop`: end the pod through systemd, last app first (contract section 3.2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux.signals import SIGKILL
from stage1_skim import arguments, systemd, take_down
from stage1_skim.arguments import BOOLEAN
from stage1_skim.places import UNIT_DIRECTORY, scope_name, stop_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stage1_skim.systemd import Manager

_FLAGS = {"force": BOOLEAN}


def main(words: Sequence[str]) -> int:
    """Queues the end and returns 0, also for a pod that has ended; with --force everything in the pod is killed. Raises UserError."""
    given = arguments.parse(words, _FLAGS)
    uuid = arguments.pod_uuid(given)
    directory = os.getcwd()
    force = given.is_set("force")
    # First of all, for a `run` that is about to make the scope: it looks for this when it has made it.
    unnoted = _leave_note(directory)
    try:
        ended = _end(uuid, directory, force=force)
    except systemd.ConnectionLostError:
        ended = _end(uuid, directory, force=force)
    if unnoted and not ended and _lock_holder(directory):
        raise UserError(f"a pod that is starting cannot be told to stop: {unnoted.filename}: {unnoted.strerror}", hint="or use --force")
    return 0


def _leave_note(directory: str) -> OSError | None:
    """What went wrong, if something did: a pod that has its scope stops without."""
    try:
        os.close(os.open(stop_request(directory), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        return error
    return None


def _end(uuid: str, directory: str, *, force: bool) -> bool:
    """Whether there was something to end, by systemd or by force."""
    with systemd.Manager() as manager:
        found = manager.is_loaded(scope_name(uuid))
        manager.stop_unit(scope_name(uuid))
        if force:
            _kill(manager, uuid, directory)
    return found or force


def _kill(manager: Manager, uuid: str, directory: str) -> None:
    """Everything is on its way to its end already, so nothing that is killed is started again."""
    for unit in take_down.unit_files(UNIT_DIRECTORY, uuid):
        if unit.endswith(".service"):
            manager.kill_unit(unit, SIGKILL)
    # The supervisor last: while it lives it keeps apart what failed from what was killed.
    manager.kill_unit(scope_name(uuid), SIGKILL)
    holder = _lock_holder(directory)
    if holder:
        _kill_process(holder, directory)


def _lock_holder(directory: str) -> int:
    """Who holds the pod's lock: `run` before it has a scope, stage0 before that; 0 for nobody (proc_locks(5))."""
    inode = f":{os.stat(directory).st_ino}"
    with open("/proc/locks", encoding="ascii", errors="replace") as lines:
        for line in lines:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].endswith(inode):
                return int(fields[4])
    return 0


def _kill_process(pid: int, directory: str) -> None:
    """Only if it has that very directory open: inode numbers are unique in one file system only."""
    wanted = os.stat(directory)
    try:
        process = os.pidfd_open(pid)
        try:
            opened = f"/proc/{pid}/fd"
            if any(_is_same(os.path.join(opened, name), wanted) for name in os.listdir(opened)):
                _send_signal(process, SIGKILL)
        finally:
            os.close(process)
    except (FileNotFoundError, ProcessLookupError):
        pass


def _is_same(path: str, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), wanted)
    except FileNotFoundError:  # closed since it was listed
        return False


def _send_signal(process: int, number: int) -> None:
    import signal

    signal.pidfd_send_signal(process, number)
