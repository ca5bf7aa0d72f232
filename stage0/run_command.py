"""`rkt run` (contract sections 2 and 7.2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux.steps import reached

from .images import open_images
from .output import Failure
from .pod_flags import PodFlags, check_count, refuse_metadata_service
from .prepare import create_pod, make_plan, prepare
from .running import group_of_rkt, run_pod
from .stage1 import RunOptions
from .stage1_image import choose_stage1
from .store import sync_directory

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet
    from .prepare import Plan

DESCRIPTION = """\
Runs a pod of the images.

IMAGE is an image ID, a file or an image's name; they are tried in that order. The flags after an image are for that image; --mount before
the first one is for all of them. --volume makes volumes that --mount then puts into the apps.

What follows "--" goes to the app of the image before it, up to a "---"."""
INTERSPERSED = False


def declare(flags: FlagSet) -> None:
    """All flags of section 4.3, and --uuid-file-save."""
    flags.gathered = PodFlags()
    flags.gathered.declare_preparation(flags)
    flags.gathered.declare_running(flags)
    flags.text("uuid-file-save", "write out pod UUID to specified file")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """embryo -> prepare -> run, then become stage1."""
    gathered: PodFlags = flags.gathered
    request = gathered.request(flags, arguments)
    refuse_metadata_service(flags)
    check_count(request, interactive=flags.value("interactive"))
    names = gathered.names(flags)
    images = open_images(context)
    stage1 = choose_stage1(context, images, gathered.stage1)
    plan = make_plan(context, images, request, images.find_all(request), stage1)
    if not plan.apps:
        raise UserError("pod must contain at least one application")
    options = RunOptions(
        networks=gathered.networks,
        names=names,
        debug=context.debug,
        interactive=flags.value("interactive"),
        local_config=context.local_config,
        hostname=flags.value("hostname"),
        ipc=flags.value("ipc"),
        insecure=context.insecure,
    )
    with create_pod(context) as pod:
        _save_uuid(pod, flags.value("uuid-file-save"))
        reached("created")
        prepare(context, images, pod, plan)
        reached("prepared")
        _start(context, pod, plan, options)
    return 254


def _start(context: Context, pod: Pod, plan: Plan, options: RunOptions) -> None:
    try:
        pod.to_run()
    except (UserError, OSError) as error:
        raise Failure("unable to transition to run") from error
    reached("moved")
    group = group_of_rkt(context)
    run_pod(context, pod, [app.name for app in plan.apps], options, overlay=plan.overlay, group=group)


def _save_uuid(pod: Pod, path: str) -> None:
    """Before anything can go wrong, so that `rkt rm` can clean up after it: a power cut, too, which would leave an empty file."""
    if not path:
        return
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(pod.uuid)
            file.flush()
            if os.path.isfile(path):
                os.fsync(file.fileno())
                sync_directory(os.path.dirname(os.path.realpath(path)))
    except OSError as error:
        raise Failure("error saving pod UUID to file") from error
