"""`rkt image verify` (contract section 7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from stage0.output import Failure, out
from stage0.store import Store
from stage0.tree_store import TreeDamaged, TreeNotRendered, TreeStore

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = "Checks that rendered images have not changed on the disk, and renders those again that have."


def declare(flags: FlagSet) -> None:
    """No flags."""


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Check each image; a damaged tree is mended, with status 0."""
    if not arguments:
        raise Failure("must provide at least one image ID")
    store = Store(context.data_directory)
    trees = TreeStore(store)
    for reference in arguments:
        try:
            key = store.resolve(reference)
        except UserError as error:
            raise Failure(f"unable to resolve store key for image {reference}") from error
        try:
            trees.check(trees.tree_id(key))
        except TreeNotRendered:
            out(f'image "{reference}" not rendered; no verification needed')
        except TreeDamaged as error:
            out(f"tree cache verification failed for image {reference}: {error};  rebuilding...")
            trees.render(key, rebuild=True)
        else:
            out(f'successfully verified checksum for image: "{reference}" ("{key}")')
    return 0
