"""Who started the pod: which of its signals count, and whether it has a terminal."""

from __future__ import annotations

import os

from linux.signals import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, ignored_signals


def wanted_signals() -> set[int]:
    """Those that stop or reload a pod, or are for its apps.

    A shell's background job is not to hear of Ctrl-C, nor what nohup started of the terminal's end.
    """
    return {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2} - (ignored_signals() - {SIGTERM})


def has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
