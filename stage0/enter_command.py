"""`rkt enter` (contract sections 3.2 and 7.2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import layout, pods, status

from .commands import UsageWanted
from .execution import execute_program
from .flag_values import ac_name
from .output import Failure
from .pod_arguments import find_pod
from .pod_description import read_manifest
from .stage1 import enter_arguments, read_stage1

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Runs a command in an app of the running pod of that UUID; without a command /bin/bash."
INTERSPERSED = False
_DEFAULT_COMMAND = "/bin/bash"


def declare(flags: FlagSet) -> None:
    """--app."""
    flags.text("app", "name of the app to enter within the specified pod")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Become stage1's `enter`. It is executed from the rendered image, so what it does not find there it finds by its working directory."""
    if not arguments:
        raise UsageWanted
    with find_pod(context, arguments[0]) as pod:
        if pod.state != pods.RUNNING:
            raise UserError(f'pod "{pod.uuid}" isn\'t currently running')
        try:
            pid = status.enterable_pid(pod)
        except (UserError, OSError) as error:
            raise Failure(f'unable to determine the pid for pod "{pod.uuid}"') from error
        try:
            app = flags.value("app") or _only_app(context, pod)
            ac_name(app)
        except (UserError, ValueError) as error:
            raise Failure("unable to determine app name") from error
        command = arguments[1:]
        if not command:
            context.log.say(f'no command specified, assuming "{_DEFAULT_COMMAND}"')
            command = [_DEFAULT_COMMAND]
        try:
            _enter(context, pod, pid, app, command)
        except (UserError, OSError) as error:
            raise Failure("enter failed") from error
    return 254


def _enter(context: Context, pod: Pod, pid: int, app: str, command: list[str]) -> None:
    rootfs = layout.tree_rootfs(context.data_directory, status.stage1_tree_id(pod.path))
    os.chdir(pod.path)
    execute_program(enter_arguments(read_stage1(pod.path), rootfs, pid, app, command))


def _only_app(context: Context, pod: Pod) -> str:
    apps = read_manifest(pod).apps
    if not apps:
        raise UserError("pod contains zero apps")
    if len(apps) > 1:
        context.log.say("pod contains multiple apps:")
        for app in apps:
            context.log.say(f"\t{app.name}")
        raise UserError('specify app using "rkt enter --app= ..."')
    return apps[0].name
