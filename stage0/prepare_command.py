"""`rkt prepare` (contract sections 2.1 and 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError

from .images import open_images
from .output import Failure, out
from .pod_flags import PodFlags, check_count
from .prepare import create_pod, make_plan, prepare
from .stage1_image import choose_stage1

if TYPE_CHECKING:
    from .context import Context
    from .flags import FlagSet

DESCRIPTION = """\
Prepares a pod of the images, and prints its UUID for run-prepared.

IMAGE is an image ID, a file or an image's name; they are tried in that order. What follows "--" goes to the app, up to a "---"."""
INTERSPERSED = False


def declare(flags: FlagSet) -> None:
    """The flags of `run`, as far as they concern preparing, and --quiet."""
    flags.gathered = PodFlags()
    flags.gathered.declare_preparation(flags)
    flags.boolean("quiet", "suppress superfluous output on stdout, print only the UUID on success")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """embryo -> prepare -> prepared."""
    gathered: PodFlags = flags.gathered
    request = gathered.request(flags, arguments)
    check_count(request, interactive=False)
    images = open_images(context)
    stage1 = choose_stage1(context, images, gathered.stage1)
    try:
        keys = images.find_all(request)
    except UserError as error:
        raise Failure("error finding images") from error
    plan = make_plan(context, images, request, keys, stage1)
    with create_pod(context) as pod:
        prepare(context, images, pod, plan)
        try:
            pod.sync()
        except OSError as error:
            raise Failure("error syncing pod data") from error
        try:
            pod.to_prepared()
        except (UserError, OSError) as error:
            raise Failure("error transitioning to prepared") from error
        out(pod.uuid)
    return 0
