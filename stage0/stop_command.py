"""`rkt stop` (contract sections 3.2 and 7.2)."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux.process import run_entrypoint
from poddir import pods

from .output import Failure, Quit, out, quote
from .pod_arguments import declare_uuid_file, find_pod, named_pods
from .stage1 import read_stage1, stop_arguments

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

_PATIENCE = 5.0  # seconds

DESCRIPTION = "Asks the stage1 of running pods to end them."


def declare(flags: FlagSet) -> None:
    """--force, --uuid-file."""
    flags.boolean("force", "forced stopping")
    declare_uuid_file(flags)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Stop each pod; one that fails does not keep the others from it."""
    try:
        names = named_pods(flags, arguments, several=True)
    except Failure as error:
        context.log.failure(error)
        raise Quit(1) from None
    failed = 0
    for name in names:
        try:
            with find_pod(context, name, "cannot get pod") as pod:
                _stop(pod, force=flags.value("force"))
        except (UserError, OSError) as error:
            context.log.failure(error)
            failed += 1
    if failed:
        raise UserError(f"failed to stop {failed} pod(s)")
    return 0


def _stop(pod: Pod, *, force: bool) -> None:
    if pod.state != pods.RUNNING and not pod.after_run:
        raise UserError(f"pod {quote(pod.uuid)} is not running")
    try:
        arguments = _program_of_running(pod, force=force)
        sys.stdout.flush()
        ended = run_entrypoint(arguments, directory=pod.path, env=os.environ) if arguments else 0
        if ended != 0:
            raise UserError(status_text(ended))
    except (UserError, OSError) as error:
        raise Failure(f"error stopping {quote(pod.uuid)}") from error
    out(quote(pod.uuid) if arguments else f"pod {quote(pod.uuid)} is already stopped")


def _program_of_running(pod: Pod, *, force: bool) -> list[str] | None:
    """argv of its stage1's `stop`, which a pod that is just starting has some milliseconds later: None if the pod is not running.

    Raises UserError.
    """
    until = time.monotonic() + _PATIENCE
    while pod.state == pods.RUNNING:
        arguments = stop_arguments(read_stage1(pod.path), pod.uuid, force=force)
        if os.path.lexists(arguments[0]) or time.monotonic() > until:
            return arguments
        time.sleep(0.01)
        pod.refresh()
    return None


def status_text(status: int) -> str:
    """How a program ended, in Go's words."""
    if status >= 0:
        return f"exit status {status}"
    from signal import strsignal

    return f"signal: {(strsignal(-status) or str(-status)).lower()}"
