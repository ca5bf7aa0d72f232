"""`rkt image render` (contract section 7.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stage0.commands import UsageWanted
from stage0.image_commands.output_directory import fresh_directory
from stage0.output import Failure
from stage0.rendering import layers, render_into
from stage0.store import Store

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = "Unpacks an image of the local store into a directory, with all that it depends on."


def declare(flags: FlagSet) -> None:
    """--rootfs-only, --overwrite."""
    flags.boolean("rootfs-only", "render rootfs only")
    flags.boolean("overwrite", "overwrite output directory")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Render it; from the archives, which are verified, and so without the tree store."""
    if len(arguments) != 2:
        raise UsageWanted
    reference, path = arguments
    store = Store(context.data_directory)
    key = store.resolve(reference)
    with fresh_directory(path, overwrite=flags.value("overwrite"), rootfs_only=flags.value("rootfs-only")) as directory:
        try:
            render_into(store, layers(store, key), directory)
        except OSError as error:
            raise Failure("error rendering ACI") from error
        os.chmod(os.path.join(directory, "manifest"), 0o700)
    return 0
