"""`rkt status` (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import pods, status

from .commands import UsageWanted
from .output import Failure, Quit, describe, out
from .pod_arguments import declare_uuid_file, find_pod, named_pods
from .pod_description import describe_pod, network_text, read_manifest, to_json
from .times import SECOND, long_time, parse_boolean, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

DESCRIPTION = """\
Shows a pod's state, times, process and the exit statuses of its apps.

--wait and --wait-ready take a boolean or a duration: true or less than zero waits for ever, false or zero does not wait."""
_ENDED = frozenset({pods.DELETING, pods.EXITED_DELETING, pods.EXITED, pods.EXITED_GARBAGE})


def declare(flags: FlagSet) -> None:
    """--wait, --wait-ready, --format, --uuid-file."""
    flags.text(
        "wait", "toggles waiting for the pod to finish. Use the output to determine the actual terminal state.", "false", bare="true"
    )
    flags.text("wait-ready", "toggles waiting until the pod is ready.", "false", bare="true")
    usage = (
        "choose the output format. Allowed format includes 'json', 'json-pretty'. If empty, then the result is printed as key value pairs"
    )
    flags.choice("format", usage, ("", "json", "json-pretty"))
    declare_uuid_file(flags)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Wait if asked to, then print."""
    try:
        text = named_pods(flags, arguments, several=False)[0]
    except Failure as error:
        context.log.failure(error)
        raise Quit(1) from None
    wait, ready = _wait_time(flags.value("wait")), _wait_time(flags.value("wait-ready"))
    with find_pod(context, text) as pod:
        _wait(status.wait_ready, pod, ready, "error waiting for pod readiness")
        _wait(status.wait_finished, pod, wait, "error waiting for pod to finish")
        try:
            if flags.value("format"):
                _print_json(pod, pretty=flags.value("format") == "json-pretty")
            else:
                _print(pod)
        except (UserError, OSError) as error:
            raise Failure("unable to print status") from error
    return 0


def _wait_time(text: str) -> int:
    """In ns; below zero is for ever, zero not at all. Raises UsageWanted."""
    if not text:
        return -1
    try:
        return -1 if parse_boolean(text) else 0
    except ValueError:
        pass
    try:
        return parse_duration(text)
    except ValueError:
        raise UsageWanted from None


def _wait(wait: Callable[[Pod, float | None], None], pod: Pod, time: int, message: str) -> None:
    if time == 0:
        return
    try:
        wait(pod, None if time < 0 else time / SECOND)
    except TimeoutError as error:
        raise Failure(message) from error


def _print_json(pod: Pod, *, pretty: bool) -> None:
    try:
        out(to_json(describe_pod(pod), pretty=pretty))
    except UserError as error:
        raise UserError(f"error converting pod: {error}") from None


def _print(pod: Pod) -> None:
    out(f"state={pod.state}")
    try:
        created = status.creation_time(pod)
    except OSError as error:
        raise UserError(f'unable to get creation time for pod "{pod.uuid}": {describe(error)}') from None
    out(f"created={long_time(created)}")
    started = status.start_time(pod)
    if started is not None:
        out(f"started={long_time(started)}")
    if pod.state in (pods.RUNNING, pods.EXITED):
        out(f"networks={network_text(pod)}")
    if pod.state != pods.RUNNING and pod.state not in _ENDED:
        return
    pid = status.recorded_pid(pod.path)
    if pid is not None:
        out(f"pid={pid}")
    out(f"exited={'true' if pod.state in (pods.EXITED, pods.EXITED_GARBAGE) else 'false'}")
    if pod.state != pods.RUNNING:
        for app in read_manifest(pod).apps:
            exit_status = status.exit_status(pod.path, app.name)
            if exit_status is not None:
                out(f"app-{app.name}={exit_status}")
