"""The guardian of a test host, where one that runs would do it too seldom."""

from __future__ import annotations

import json
import os
import pty
import selectors
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from hosts.guardian import Guardian, Record


def test_a_console_that_ends_with_its_process_in_one_turn_is_no_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As on a busy machine: when it gets its turn the process is dead and the console hung up, and the kernel names the signal first."""
    guardian = Guardian(tmp_path)
    guardian.record = Record(name="busy", kind="nspawn", argv=["true"])
    guardian.child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, guardian.child.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / "pid").touch()
    guardian.terminal, slave = pty.openpty()
    ours, theirs = socket.socketpair()
    with ours, theirs, guardian.selector:
        guardian.selector.register(ours, selectors.EVENT_READ, "signal")
        guardian.selector.register(guardian.terminal, selectors.EVENT_READ, "console")
        theirs.send(bytes([signal.SIGCHLD]))
        os.close(slave)
        guardian.turn(ours)
    assert json.loads(capfd.readouterr().out) == {"event": "down", "status": 0}
    assert guardian.terminal == -1
