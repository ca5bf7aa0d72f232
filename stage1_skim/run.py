"""The entrypoint `run`: set the pod up, start its apps as services, and supervise them (contract sections 2.6 and 3)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from appc.app import EnvironmentVariable
from appc.errors import UserError
from linux.signals import block
from linux.steps import reached
from poddir import layout
from stage1_skim import arguments, execute, take_down
from stage1_skim.caller import wanted_signals
from stage1_skim.output import Output
from stage1_skim.places import UNIT_DIRECTORY
from stage1_skim.plan import make_plan
from stage1_skim.pod import read_pod
from stage1_skim.request import FLAGS, read_request, refuse, unsupported_flags
from stage1_skim.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stage1_skim.pod import Pod


def main(words: Sequence[str]) -> int:
    """Returns what `rkt run` exits with. Raises UserError before any app was started."""
    block(wanted_signals())  # the supervisor takes them, when there is one: a pod that is half set up is not left so
    given = arguments.parse(words, FLAGS)
    uuid = arguments.pod_uuid(given)
    _keep_lock()
    reached("locked")
    refuse(given)
    pod = read_pod(os.getcwd(), uuid)
    interactive = given.is_set("interactive")
    if interactive:
        pod = _interactive(pod)
    output = Output(pod, interactive=interactive)
    plan = make_plan(pod, read_request(given, os.environ, pod), streams=output.of)
    for warning in (*unsupported_flags(given), *plan.warnings):
        _say(f"warning: {warning}")
    if given.is_set("debug"):
        _say(plan.text())
    if output.terminal:
        output.terminal.give(plan.apps[0].launch.credentials.uid)
    reached("planned")
    supervisor = None
    try:
        execute.set_up(pod, plan)
        _write_pid()
        reached("pid")
        prepared = Supervisor(pod, output, _say)
        prepared.start()
        supervisor = prepared
    finally:
        if supervisor is None:  # for whatever reason, a mistake of ours among them
            take_down.remove_units(UNIT_DIRECTORY, uuid)
            take_down.undo(uuid, pod.directory)
    status = supervisor.run()
    reached("ended")
    if pod.name:  # what outlives the pod, as a container does, still finds its programs by the name
        take_down.unmount_volumes(uuid, pod.directory)
    else:
        take_down.undo(uuid, pod.directory)
    return status


def _keep_lock() -> None:
    """The pod runs for as long as this descriptor is open, here and nowhere else: no app inherits it (contract section 1.2)."""
    text = os.environ.pop(layout.LOCK_DESCRIPTOR_VARIABLE, "")
    if text.isdigit():
        try:
            os.set_inheritable(int(text), False)
        except OSError as error:
            raise UserError(f"{layout.LOCK_DESCRIPTOR_VARIABLE}={text} is no open descriptor: {error.strerror}") from None


def _interactive(pod: Pod) -> Pod:
    """One app, which is told of the caller's kind of terminal. Raises UserError for more apps."""
    if len(pod.apps) != 1:
        raise UserError(f"interactive option only supports one image, and the pod has {len(pod.apps)} apps")
    app = pod.apps[0]
    known = any(variable.name == "TERM" for variable in app.app.environment)
    if known or "TERM" not in os.environ:
        return pod
    environment = (*app.app.environment, EnvironmentVariable(name="TERM", value=os.environ["TERM"]))
    return pod._replace(apps=(app._replace(app=app.app._replace(environment=environment)),))


def _write_pid() -> None:
    """`pid` is what enter waits for; its mtime is the start time (contract section 1.3)."""
    with open(layout.PID, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def _say(line: str) -> None:
    try:
        print(f"run: {line}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads it any more, which is no reason to end a pod
        pass
