"""--interactive on a terminal: the app gets a pseudoterminal of its own, and what is typed and shown goes to and fro.

So the app stays a service with all its limits, and has job control, Ctrl-C, Ctrl-Z, Ctrl-D and a window size as on any terminal.
Pressing Ctrl-] three times within a second kills the app, as with rkt's default stage1.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
from typing import TYPE_CHECKING

from stage1_skim.streams import STDIN, STDOUT, Relay, Sink, reopened

if TYPE_CHECKING:
    from stage1_skim.streams import Streams

_KILL_BYTE = b"\x1d"  # Ctrl-]
_KILL_COUNT = 3
_KILL_SECONDS = 1.0


class Terminal:
    """Both ends of the app's pseudoterminal, and the caller's terminal while it is in raw mode."""

    def __init__(self, streams: Streams) -> None:
        self.is_raw = False
        self.is_gone = False
        self._presses: list[float] = []
        self._usual = termios.tcgetattr(STDIN)
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        termios.tcsetattr(self._slave, termios.TCSANOW, self._usual)
        self.resize()
        typed, shown = reopened(STDIN, os.O_RDONLY), reopened(STDOUT, os.O_WRONLY)
        app = Sink(self._master, ours=True)
        caller = Sink(STDOUT) if shown is None else Sink(shown, ours=True)
        streams.add(Relay(STDIN if typed is None else typed, [app], on_data=self._look, on_end=self._hang_up, is_input=True))
        self._shown = Relay(self._master, [caller])
        streams.add(self._shown)

    def give(self, uid: int) -> None:
        """It belongs to the app's user, who may open it by its name."""
        os.fchown(self._slave, uid, -1)
        os.fchmod(self._slave, 0o620)

    def resize(self) -> None:
        """The app's window is the caller's (ioctl_tty(2)); the kernel tells the app if it has changed."""
        size = array.array("H", [0, 0, 0, 0])
        try:
            fcntl.ioctl(STDIN, termios.TIOCGWINSZ, size)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        except OSError:
            self.is_gone = True

    def make_raw(self) -> None:
        """Every key goes to the app from here on; also after the caller's shell had the terminal meanwhile (SIGSTOP, SIGCONT)."""
        try:
            mode = termios.tcgetattr(STDIN)
        except termios.error:  # it was hung up: with SIGHUP comes a SIGCONT
            self.is_gone = True
            return
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        self._set(mode)
        self.is_raw = True

    def restore(self) -> None:
        """As the caller had it."""
        if self.is_raw:
            self._set(self._usual)
            self.is_raw = False

    def close_apps_end(self) -> None:
        """Nobody starts on it any more: at the end of what was shown on it there is an end now."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    @property
    def is_read(self) -> bool:
        """Whether all that the app showed has been read."""
        return self._shown.ended

    @property
    def kill_wanted(self) -> bool:
        return len(self._presses) >= _KILL_COUNT

    def _set(self, mode: list[int | list[bytes | int]]) -> None:
        try:
            termios.tcsetattr(STDIN, termios.TCSADRAIN, mode)
        except termios.error:
            self.is_gone = True

    def _hang_up(self) -> None:
        self.is_gone = True

    def _look(self, data: bytes) -> None:
        if data.strip(_KILL_BYTE):
            self._presses.clear()
            return
        now = time.monotonic()
        self._presses = [press for press in self._presses if now - press < _KILL_SECONDS] + [now] * len(data)
