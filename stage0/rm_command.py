"""`rkt rm` (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import pods

from .output import Failure, out, quote
from .pod_arguments import declare_uuid_file, find_pod, named_pods
from .removal import delete

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Removes the named pods that do not run, without the grace periods of gc."
_BUSY = {
    pods.RUNNING: "running",
    pods.EMBRYO: "being prepared",
    pods.PREPARING: "being prepared",
    pods.DELETING: "being deleted",
}


def declare(flags: FlagSet) -> None:
    """--uuid-file."""
    declare_uuid_file(flags)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Remove each pod; one that fails does not keep the others from it."""
    failed = False
    try:
        names = named_pods(flags, arguments, several=True)
    except Failure as error:
        context.log.failure(error)
        names, failed = [], True
    for name in names:
        try:
            with find_pod(context, name, "cannot get pod") as pod:
                if _remove(context, pod):
                    out(quote(pod.uuid))
                else:
                    failed = True
        except (UserError, OSError) as error:
            context.log.failure(error)
            failed = True
    if failed:
        raise UserError("failed to remove one or more pods")
    return 0


def _remove(context: Context, pod: Pod) -> bool:
    if pod.state in _BUSY:
        raise UserError(f"pod {quote(pod.uuid)} is currently {_BUSY[pod.state]}")
    try:
        if pod.state == pods.ABORTED_PREPARE:
            context.log.say(f"moving failed prepare {quote(pod.uuid)} to garbage")
            pod.to_garbage()
        elif pod.state == pods.PREPARED:
            context.log.say(f"moving expired prepared pod {quote(pod.uuid)} to garbage")
            pod.to_garbage()
        elif pod.state == pods.EXITED:
            pod.to_exited_garbage()
    except OSError as error:
        raise Failure("rename error") from error
    return delete(context, pod)
