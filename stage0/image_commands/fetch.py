"""`rkt fetch`: image files into the store, rendered at once where that is possible (contract section 7.4)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.image_id import fetch_form
from stage0.image_reference import PATH, kind_of_reference
from stage0.images import open_images
from stage0.output import Failure, out

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = """Takes images into the local store.

An image is a file (an App Container Image, *.aci), or an image that is in the store already, named by image ID or by name. Signatures are
not supported yet: a file is accepted with --insecure-options=image only."""


def declare(flags: FlagSet) -> None:
    """--full, --signature, --pull-policy, --store-only, --no-store."""
    flags.boolean("full", "print the full image hash after fetching")
    flags.text("signature", "local signature file to use in validating the preceding image")
    flags.text("pull-policy", "when to pull an image", "update")
    flags.boolean("store-only", "use only available images in the store (do not discover or download from remote URLs)")
    flags.boolean("no-store", "fetch images ignoring the local store")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the ID of each image. Raises UserError for the first one that cannot be had."""
    if not arguments:
        raise Failure("must provide at least one image")
    if flags.value("store-only") and flags.value("no-store"):
        raise Failure("both --store-only and --no-store specified")
    if flags.value("signature") and "image" not in context.insecure:
        raise Failure("signatures are not supported yet: use --insecure-options=image to accept the image unverified")
    never = flags.value("store-only") or (flags.value("pull-policy") == "never" and not flags.value("no-store"))
    images = open_images(context)
    for reference in arguments:
        if never and kind_of_reference(reference)[0] == PATH:
            raise Failure(f"{reference} is a file, which --pull-policy=never does not take into the store")
        known = set(images.store.image_ids())
        key = images.find(reference)
        # As rkt does, so that the first pod need not wait; only root can give files their owners.
        if os.geteuid() == 0:
            try:
                images.render(key)
            except Failure:
                # What cannot be rendered is of no use to anyone; the user was told that it could not be had.
                if key not in known:
                    images.store.remove(key)
                raise
        out(key if flags.value("full") else fetch_form(key))
    return 0
