"""`rkt image cat-manifest` (contract section 7.3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from appc.document import dump
from appc.image import image_manifest_json
from stage0.commands import UsageWanted
from stage0.output import out
from stage0.store import Store

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = "Prints the manifest of an image, which is named by image ID or by name."


def declare(flags: FlagSet) -> None:
    """--pretty-print."""
    flags.boolean("pretty-print", "apply indent to format the output", default=True)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print it."""
    if len(arguments) != 1:
        raise UsageWanted
    store = Store(context.data_directory)
    text = image_manifest_json(store.manifest(store.resolve(arguments[0])))
    out(dump(json.loads(text), indent="\t") if flags.value("pretty-print") else text)
    return 0
