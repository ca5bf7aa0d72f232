"""`rkt run-prepared` (contract sections 2.1 and 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import pods, status

from .commands import UsageWanted
from .output import Failure
from .pod_arguments import find_pod
from .pod_description import read_manifest
from .pod_flags import PodFlags, refuse_metadata_service
from .prepare import overlay_works
from .running import group_of_rkt, run_pod
from .stage1 import RunOptions

if TYPE_CHECKING:
    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Runs the pod of that UUID, which `prepare` made."


def declare(flags: FlagSet) -> None:
    """The flags of `run` that concern running."""
    flags.gathered = PodFlags()
    flags.gathered.declare_running(flags)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """prepared -> run, then become stage1, without --local-config and --ipc: rkt does not hand them on here."""
    if len(arguments) != 1:
        raise UsageWanted
    gathered: PodFlags = flags.gathered
    with find_pod(context, arguments[0]) as pod:
        if pod.state != pods.PREPARED:
            raise UserError(f'pod "{pod.uuid}" is not prepared')
        try:
            manifest = read_manifest(pod)
        except UserError as error:
            raise Failure("cannot read pod manifest") from error
        if flags.value("interactive") and len(manifest.apps) > 1:
            raise UserError("interactive option only supports pods with one app")
        refuse_metadata_service(flags)
        names = gathered.names(flags)
        overlay = status.uses_overlay(pod.path)
        if overlay and not overlay_works(context):
            raise UserError("unable to run prepared overlay-enabled pod: overlay not supported")
        try:
            pod.to_run()
        except (UserError, OSError) as error:
            raise Failure("cannot transition to run") from error
        options = RunOptions(
            networks=gathered.networks,
            names=names,
            debug=context.debug,
            interactive=flags.value("interactive"),
            hostname=flags.value("hostname"),
            insecure=context.insecure,
        )
        run_pod(context, pod, [app.name for app in manifest.apps], options, overlay=overlay, group=group_of_rkt(context))
