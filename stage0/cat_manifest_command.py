"""`rkt cat-manifest` (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from appc.pod import pod_manifest_json

from .commands import UsageWanted
from .output import Failure, out
from .pod_arguments import declare_uuid_file, find_pod
from .pod_description import read_manifest, to_json

if TYPE_CHECKING:
    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Prints the manifest of the pod of that UUID."


def declare(flags: FlagSet) -> None:
    """--pretty-print, --uuid-file."""
    flags.boolean("pretty-print", "apply indent to format the output", default=True)
    declare_uuid_file(flags)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the manifest, normalised. Unlike rkt, say why a manifest cannot be read."""
    from poddir import pods

    if flags.value("uuid-file"):
        try:
            text = pods.read_uuid_file(flags.value("uuid-file"))
        except OSError as error:
            raise Failure("unable to resolve UUID from file") from error
    elif len(arguments) == 1:
        text = arguments[0]
    else:
        raise UsageWanted
    with find_pod(context, text) as pod:
        try:
            manifest = pod_manifest_json(read_manifest(pod))
        except UserError as error:
            raise Failure("cannot read the pod manifest") from error
    if flags.value("pretty-print"):
        import json

        manifest = to_json(json.loads(manifest), pretty=True)
    out(manifest)
    return 0
