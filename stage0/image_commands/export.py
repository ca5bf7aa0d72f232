"""`rkt image export` (contract section 7.3)."""

from __future__ import annotations

import os
from hashlib import sha512
from typing import TYPE_CHECKING

from appc.image_id import key_of_digest
from stage0.commands import UsageWanted
from stage0.output import Failure
from stage0.rendering import DamagedBlob
from stage0.store import Store

if TYPE_CHECKING:
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = "Writes an image of the local store to a file, as an uncompressed App Container Image."
_PIECE = 1 << 20


def declare(flags: FlagSet) -> None:
    """--overwrite."""
    flags.boolean("overwrite", "overwrite output ACI")


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Copy the blob."""
    if len(arguments) != 2:
        raise UsageWanted
    reference, path = arguments
    store = Store(context.data_directory)
    key = store.resolve(reference)
    try:
        with store.lock(key, shared=True), open(store.blob_path(key), "rb", buffering=0) as blob:
            existing = "wb" if flags.value("overwrite") else "xb"
            try:
                out = open(path, existing)  # noqa: SIM115
            except FileExistsError:
                raise Failure("output ACI file exists (try --overwrite)") from None
            except OSError as error:
                raise Failure(f"unable to open output ACI file {path}") from error
            digest = sha512()
            with out:
                while piece := blob.read(_PIECE):
                    digest.update(piece)
                    out.write(piece)
        if key_of_digest(digest.hexdigest()) != key:
            if os.path.isfile(path):
                os.unlink(path)
            raise DamagedBlob(key, "its archive is not the one that was stored")
    except FileNotFoundError as error:
        raise Failure("error reading image") from error
    store.mark_used(key)
    if os.path.isfile(path):  # and not /dev/stdout
        os.chmod(path, 0o644)
    return 0
