"""`rkt list` (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import pods, status

from . import APPC_VERSION
from .output import Failure, describe, out, with_causes
from .pod_description import app_names, describe_pod, image_name, network_text, to_json
from .tables import align
from .times import long_time, short_time

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Shows a table of the pods and what is known of them."
_LEGEND = ("UUID", "APP", "IMAGE NAME", "STATE", "CREATED", "STARTED", "NETWORKS")
_FULL_LEGEND = ("UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS")
_IMAGE_ID_LENGTH = 19


def declare(flags: FlagSet) -> None:
    """--no-legend, --full, --format."""
    flags.boolean("no-legend", "suppress a legend with the list")
    flags.boolean("full", "use long output format")
    usage = (
        "choose the output format, allowed format includes 'json', 'json-pretty'. If empty, then the result is printed as key value pairs"
    )
    flags.choice("format", usage, ("", "json", "json-pretty"))


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the pods; what cannot be read is told in a block on standard error, with status 0."""
    full, form = flags.value("full"), flags.value("format")
    problems: list[BaseException] = []
    skipped: list[str] = []
    rows: list[tuple[str, ...]] = []
    documents = []
    if not flags.value("no-legend"):
        rows.append(_FULL_LEGEND if full else _LEGEND)
    try:
        pods.make_state_directories(context.data_directory)
    except OSError as error:
        raise Failure("failed to get pod handles") from error
    for pod in pods.walk(context.data_directory, pods.COMMON_DIRECTORIES, skipped):
        try:
            if form:
                documents.append(describe_pod(pod))
            else:
                rows += _rows(pod, problems, full=full)
        except (UserError, OSError) as error:
            problems.append(error)
    for line in skipped:
        context.log.say(line)
    if form:
        out(to_json(documents or None, pretty=form == "json-pretty"))
    else:
        out(align("".join("\t".join(row) + "\n" for row in rows)))
    if problems:
        _report(context, problems)
    return 0


def _rows(pod: Pod, problems: list[BaseException], *, full: bool) -> list[tuple[str, ...]]:
    """One line an app; the first one tells of the pod, too."""
    try:
        apps = app_names(pod) if pod.manifest_expected else []
    except UserError as error:
        raise UserError(f"Unable to read pod {pod.uuid} manifest:\n  {with_causes(str(error), error.__cause__, debug=False)}") from None
    time = long_time if full else short_time
    started = _time_of("start", pod, problems)
    pod_cells = (
        pod.uuid if full else pod.uuid[:8],
        (pod.state, time(_time_of("creation", pod, problems)), "" if started is None else time(started), network_text(pod)),
    )
    if not apps:
        return [(pod_cells[0], "-", "-", *(["-"] if full else []), *pod_cells[1])]
    rows = []
    for app, image in apps:
        try:
            name = image_name(pod, app)
        except UserError as error:
            name = "--"
            failure = Failure(f"pod {pod.uuid} ImageManifest could not be loaded")
            failure.__cause__ = error
            problems.append(failure)
        rows.append((pod_cells[0], app, name, *([image[:_IMAGE_ID_LENGTH]] if full else []), *pod_cells[1]))
        pod_cells = ("", ("",) * 4)
    return rows


def _time_of(what: str, pod: Pod, problems: list[BaseException]) -> int | None:
    try:
        return status.creation_time(pod) if what == "creation" else status.start_time(pod)
    except OSError as error:
        problems.append(UserError(f'unable to get {what} time for pod "{pod.uuid}": {describe(error)}'))
        return None


def _report(context: Context, problems: list[BaseException]) -> None:
    line = "-" * 40
    context.log.say(f"{len(problems)} error(s) encountered when listing pods:")
    context.log.say(line)
    for problem in problems:
        context.log.error("", problem)
        context.log.say(line)
    context.log.say("misc:")
    context.log.say(f"  rkt's appc version: {APPC_VERSION}")
    context.log.say("")
