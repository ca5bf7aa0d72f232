"""A command on a terminal: what it writes, and what a person would type."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self


class TerminalError(Exception):
    """What was expected did not come; with all that came since the last match."""


class Terminal:
    """A running command whose controlling terminal we hold the other end of."""

    def __init__(
        self,
        argv: Sequence[str],
        master: int,
        slave: int,
        *,
        before_exec: Callable[[], None],
        rows: int,
        columns: int,
        slowness: float = 1.0,
    ) -> None:
        self.master = master
        self._slowness = slowness
        self.resize(rows, columns)

        def take_terminal() -> None:
            before_exec()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_terminal)
        os.close(slave)
        self.transcript = ""  # all that it wrote
        self._matched = 0

    def resize(self, rows: int, columns: int) -> None:
        """As dragging a window's corner does; the command gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str) -> None:
        """Type `text`; Enter is "\\n", Ctrl-C "\\x03"."""
        os.write(self.master, text.encode())

    def expect(self, pattern: str, *, timeout: float = 15.0) -> re.Match[str]:
        """Wait until something after the last match matches. Raises TerminalError after `timeout` seconds, or at the end."""
        until = time.monotonic() + timeout * self._slowness
        while True:
            if match := re.compile(pattern).search(self.transcript, self._matched):
                self._matched = match.end()
                return match
            if not self._read(until):
                raise TerminalError(f"no {pattern!r} in: {self.transcript[self._matched :]!r}")

    def wait(self, *, timeout: float = 15.0) -> int:
        """Read to the end, and return the exit status (negative: a signal killed it). Raises TerminalError after `timeout` seconds."""
        until = time.monotonic() + timeout * self._slowness
        while self._read(until):
            pass
        try:
            return self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TerminalError(f"still running after {timeout:g} s: {self.transcript[self._matched :]!r}") from None

    def close(self) -> None:
        """Kill it if it runs, and hang up."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _read(self, until: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last process has closed it
            data = b""
        self.transcript += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
