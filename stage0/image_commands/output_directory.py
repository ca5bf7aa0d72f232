"""Where `image extract` and `image render` put files: a directory that must not be there, or may be replaced."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stage0.output import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fresh_directory(path: str, *, overwrite: bool, rootfs_only: bool) -> Iterator[str]:
    """A new directory to fill with `manifest` and `rootfs`; afterwards it, or only its rootfs, is at `path`. A failure leaves nothing."""
    target = os.path.abspath(path)
    if os.path.lexists(target):
        if not overwrite:
            raise Failure("output directory exists (try --overwrite)")
        if target == "/":
            raise Failure("this would delete your root filesystem. Refusing.")
    from shutil import rmtree
    from tempfile import mkdtemp

    os.makedirs(os.path.dirname(target), exist_ok=True)
    scratch = mkdtemp(prefix=".rkt-image-", dir=os.path.dirname(target))
    try:
        os.chmod(scratch, 0o755)
        yield scratch
        if os.path.isdir(target) and not os.path.islink(target):
            rmtree(target)
        elif os.path.lexists(target):
            os.unlink(target)
        os.rename(os.path.join(scratch, "rootfs") if rootfs_only else scratch, target)
    finally:
        rmtree(scratch, ignore_errors=True)
