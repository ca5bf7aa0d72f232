"""`rkt image rm` (contract section 7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from stage0.output import Failure, describe, out
from stage0.store import ImageNotFound, Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stage0.context import Context
    from stage0.flags import FlagSet
    from stage0.output import Log

DESCRIPTION = "Removes the images that are named, whether they have been used lately or not (unlike image gc)."


def declare(flags: FlagSet) -> None:
    """No flags."""


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Remove what is found of the arguments; what is not is told, with status 0. What somebody wants kept is refused."""
    if not arguments:
        raise Failure("must provide at least one image ID")
    return remove_images(Store(context.data_directory), arguments, context.log)


def remove_images(store: Store, references: Iterable[str], log: Log) -> int:
    """Remove images, print what happened, return the exit status."""
    keys: list[str] = []
    for reference in references:
        try:
            key = store.resolve(reference)
        except UserError as error:
            log.error("", error)
            continue
        if key not in keys:
            keys.append(key)
    done, failed = 0, 0
    kept = store.kept()
    for key in keys:
        if key in kept:
            log.say(f'error removing aci for image "{key}": {kept[key]} needs it (cas/roots/{kept[key]})')
            failed += 1
            continue
        try:
            store.remove(key)
        except ImageNotFound:
            # Another process was faster.
            continue
        except OSError as error:
            log.say(f'error removing aci for image "{key}": {describe(error)}')
            failed += 1
            continue
        out(f'successfully removed aci for image: "{key}"')
        done += 1
    if done:
        log.say(f"{done} image(s) successfully removed")
    if failed:
        log.say(f"{failed} image(s) cannot be removed")
        raise Failure("error(s) found while removing images")
    return 0
