"""`rkt gc` (contract section 7.2)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import locks, pods

from .output import Failure, out, quote
from .times import SECOND, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

DESCRIPTION = """\
Collects pods that are no longer of use; meant to be run by a timer.

A pod that has ended is marked by one run, and deleted by one that comes after the grace period. --grace-period=0s deletes at once."""
_GRACE_PERIOD = 30 * 60 * SECOND
_PREPARED_EXPIRATION = 24 * 3600 * SECOND
# A process that makes a pod renames its embryo at once; one that is older has lost its process.
_EMBRYO_EXPIRATION = 3600 * SECOND


def declare(flags: FlagSet) -> None:
    """--grace-period, --expire-prepared, --mark-only."""
    flags.duration("grace-period", "duration to wait before discarding inactive pods from garbage", _GRACE_PERIOD)
    flags.duration("expire-prepared", "duration to wait before expiring prepared pods", _PREPARED_EXPIRATION)
    usage = (
        "if set to true, then the exited/aborted pods will be moved to the garbage directories without actually deleting them, "
        "this is useful for marking the exit time of a pod"
    )
    flags.boolean("mark-only", usage)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Mark, then delete what was marked long enough ago. Pods that another process takes away meanwhile are passed over."""
    _mark(context, "run", pods.EXITED, "moving pod", pods.Pod.to_exited_garbage)
    _mark(context, "prepare", pods.ABORTED_PREPARE, "moving failed prepare", pods.Pod.to_garbage)
    if flags.value("mark-only"):
        return 0
    _mark(context, "prepared", pods.PREPARED, "moving expired prepared pod", pods.Pod.to_garbage, flags.value("expire-prepared"))
    _remove_embryos(context)
    _delete(context, "exited-garbage", flags.value("grace-period"))
    _delete(context, "garbage", None)
    return 0


def _mark(context: Context, directory: str, state: str, message: str, move: Callable[[Pod], None], expiration: int | None = None) -> None:
    for pod in pods.walk(context.data_directory, (directory,)):
        if pod.state != state or (expiration is not None and not _older(pod.path, expiration)):
            continue
        context.log.say(f"{message} {quote(pod.uuid)} to garbage")
        try:
            move(pod)
        except FileNotFoundError:
            continue
        except (UserError, OSError) as error:
            context.log.failure(_chained("rename error", error))


def _delete(context: Context, directory: str, grace_period: int | None) -> None:
    for pod in pods.walk(context.data_directory, (directory,)):
        if grace_period is not None and not _older(pod.path, grace_period):
            if os.path.exists(pod.path):
                context.log.say(f"pod {quote(pod.uuid)} not removed: still within grace period ({format_duration(grace_period)})")
            continue
        from .removal import delete

        out(f"Garbage collecting pod {quote(pod.uuid)}")
        delete(context, pod)


def _remove_embryos(context: Context) -> None:
    """rkt never collects these."""
    for pod in pods.walk(context.data_directory, ("embryo",)):
        if _older(pod.path, _EMBRYO_EXPIRATION) and locks.try_exclusive(pod.descriptor):
            try:
                os.rmdir(pod.path)
            except OSError as error:
                context.log.error(f"unable to remove pod {quote(pod.uuid)}", error)


def _older(path: str, age: int) -> bool:
    """Whether the directory's last change of state is more than `age` ns ago: its ctime is the time of the rename."""
    try:
        return time.time_ns() > os.lstat(path).st_ctime_ns + age
    except FileNotFoundError:
        return False


def _chained(message: str, cause: BaseException) -> Failure:
    failure = Failure(message)
    failure.__cause__ = cause
    return failure
