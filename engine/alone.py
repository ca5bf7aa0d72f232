"""One `skim setup` or `skim remove` at a time."""

from __future__ import annotations

import fcntl
import functools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.layout import Layout


def alone(command: Callable[[Layout], None]) -> Callable[[Layout], None]:
    """The command refuses, with a UserError, while another one that is made so runs. Who is not root is left to it to refuse."""

    @functools.wraps(command)
    def locked(layout: Layout) -> None:
        if os.geteuid() != 0:
            command(layout)
            return
        with _lock(layout.at("/run/skim-setup.lock")):
            command(layout)

    return locked


@contextmanager
def _lock(path: str) -> Iterator[None]:
    """A file that nobody else can open, and which goes with its holder: `remove` leaves none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:  # opened just before its last holder was done
                raise BlockingIOError
        except BlockingIOError:
            raise UserError("another `skim setup` or `skim remove` is running", hint="wait for it, and try again") from None
        try:
            yield
        finally:
            os.unlink(path)
    finally:
        os.close(descriptor)
