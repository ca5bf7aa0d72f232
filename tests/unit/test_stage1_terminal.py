"""The caller's terminal, at both ends of its life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from stage1_skim.streams import Streams
from stage1_skim.terminal import Terminal
terminal = Terminal(Streams())
os.close(int(sys.argv[2]))
terminal.make_raw()
terminal.resize()
terminal.restore()
print(terminal.is_gone, terminal.is_raw, file=sys.stderr)
"""


def test_one_that_went_away_cannot_be_made_raw_and_that_is_no_crash() -> None:
    """With SIGHUP comes SIGCONT, and whoever wakes takes the terminal back."""
    master, slave = os.openpty()
    command = [sys.executable, "-c", PROGRAM, str(ROOT), str(master)]
    # The other end is the program's own to close.
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, pass_fds=[master], start_new_session=True)
    os.close(master)
    os.close(slave)
    assert process.communicate(timeout=20)[1] == b"True False\n"
