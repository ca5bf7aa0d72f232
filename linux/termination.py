"""Ending signals as exceptions, so that what was begun is undone on the way out; then the process dies by the signal all the same."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


class Terminated(BaseException):
    """SIGTERM or SIGHUP has come; like KeyboardInterrupt nothing that catches errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_on_termination() -> None:
    """From now on these signals raise Terminated; one that whoever started us ignores (nohup) stays ignored. An exec undoes it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def die_by(number: int) -> NoReturn:
    """End as the signal would have ended us, which is what a shell or systemd that waits for us wants to see."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    # Once is enough: a whole group is signalled, and whoever spawned us passes it on. The second must not cut the undoing short.
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)
