"""The launcher: what the program that it becomes inherits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGPIPE, SIGXFSZ = 13, 25


@pytest.mark.parametrize(("told", "ignored"), [({}, {SIGPIPE}), ({"ignores SIGPIPE": False}, set())])
def test_an_app_does_not_inherit_what_the_interpreter_ignores(tmp_path: Path, told: dict[str, bool], ignored: set[int]) -> None:
    """But SIGPIPE is ignored by what systemd starts (IgnoreSIGPIPE=), and so it is here."""
    instructions = {
        "program": "/bin/grep",
        "argv": ["grep", "SigIgn", "/proc/self/status"],
        "directory": "/",
        "environment": {},
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        **told,
    }
    (tmp_path / "app.json").write_text(json.dumps(instructions))
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stage1_skim.launch_app import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "app.json")], capture_output=True, text=True, check=True)
    mask = int(done.stdout.split()[1], 16)
    assert {number for number in (SIGPIPE, SIGXFSZ) if mask >> (number - 1) & 1} == ignored
