"""signalfd(2) and pidfd_open(2): signals, and ends of processes, as something to poll for.

Without the standard library's `signal`, whose enums are slow to import.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGHUP = 1
SIGINT = 2
SIGKILL = 9
SIGUSR1 = 10
SIGUSR2 = 12
SIGPIPE = 13
SIGTERM = 15
SIGCONT = 18
SIGXFSZ = 25
SIGWINCH = 28

_SFD_NONBLOCK = 0o4000
_SFD_CLOEXEC = 0o2000000
_SIG_BLOCK = 0
_RECORD_SIZE = 128  # struct signalfd_siginfo; its first field is the number, 32 bits

_libc = ctypes.CDLL(None, use_errno=True)


def block(numbers: Iterable[int]) -> ctypes.Array[ctypes.c_char]:
    """From now on these wait until somebody takes them, by a descriptor or not at all. Returns their set. Raises OSError."""
    mask = ctypes.create_string_buffer(128)  # sigset_t of Linux
    _libc.sigemptyset(mask)
    for number in numbers:
        _libc.sigaddset(mask, number)
    if _libc.sigprocmask(_SIG_BLOCK, mask, None) != 0:
        raise OSError(ctypes.get_errno(), "sigprocmask")
    return mask


def signal_descriptor(numbers: Iterable[int]) -> int:
    """Block these signals and return a non-blocking descriptor on which they arrive. Raises OSError."""
    mask = block(numbers)
    descriptor: int = _libc.signalfd(-1, mask, _SFD_NONBLOCK | _SFD_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return descriptor


def ignored_signals() -> frozenset[int]:
    """What whoever started this process wants ignored: a shell's background job ignores SIGINT, one of nohup's SIGHUP."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")), 0)
    return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)


def restore_defaults(numbers: tuple[int, ...] = (SIGPIPE, SIGXFSZ)) -> None:
    """Before an exec: what the interpreter ignores for itself, a program expects to end it."""
    for number in numbers:
        _libc.signal(number, None)  # SIG_DFL


def read_signals(descriptor: int) -> list[int]:
    """The numbers of all signals that have arrived since the last call."""
    found: list[int] = []
    while True:
        try:
            record = os.read(descriptor, _RECORD_SIZE)
        except BlockingIOError:
            return found
        found.append(int.from_bytes(record[:4], "little"))


def process_descriptors(pids: list[int]) -> list[int]:
    """One for every process, ready when that has ended (pidfd_open(2)); or none at all if one of them is gone already."""
    found: list[int] = []
    for pid in pids:
        try:
            found.append(os.pidfd_open(pid))
        except OSError:  # gone (ESRCH), or 0 for a service between two processes (EINVAL)
            for descriptor in found:
                os.close(descriptor)
            return []
    return found
