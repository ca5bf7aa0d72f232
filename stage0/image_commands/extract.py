"""`rkt image extract` (contract section 7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage0.commands import UsageWanted
from stage0.image_commands.output_directory import fresh_directory
from stage0.output import Failure
from stage0.rendering import Layer, render_into
from stage0.store import Store

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = "Unpacks an image of the local store into a directory, without what it depends on."


def declare(flags: FlagSet) -> None:
    """--rootfs-only, --overwrite."""
    flags.boolean("rootfs-only", "extract rootfs only")
    flags.boolean("overwrite", "overwrite output directory")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Unpack it."""
    if len(arguments) != 2:
        raise UsageWanted
    reference, path = arguments
    store = Store(context.data_directory)
    key = store.resolve(reference)
    # All of the image's files, whatever its whitelist says.
    layer = Layer(key=key, manifest=store.manifest(key)._replace(path_whitelist=()), level=0)
    with fresh_directory(path, overwrite=flags.value("overwrite"), rootfs_only=flags.value("rootfs-only")) as directory:
        try:
            render_into(store, [layer], directory)
        except OSError as error:
            raise Failure("error extracting ACI") from error
    return 0
