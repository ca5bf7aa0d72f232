"""Undoing a pod while others live: names, processes."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from stage1_skim import stop, take_down


def test_a_name_that_another_pod_takes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_down, "PUBLIC_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(take_down, "LOCKS_DIRECTORY", str(tmp_path / ".lock"))
    name = tmp_path / "web"
    name.symlink_to("old")
    (tmp_path / "of-nobody").symlink_to("engine")
    removing = threading.Thread(target=take_down._unpoint_names, args=("old",))
    held = take_down.lock(str(tmp_path))  # as `run` of the new pod holds it
    removing.start()
    removing.join(0.3)
    assert removing.is_alive()
    (tmp_path / "web.new").symlink_to("new")
    os.rename(tmp_path / "web.new", name)
    os.close(held)
    removing.join(10)
    assert os.readlink(name) == "new"
    take_down._unpoint_names("new")
    assert not name.is_symlink()
    assert os.readlink(tmp_path / "of-nobody") == "engine"
    assert (tmp_path / ".lock").stat().st_mode & 0o077 == 0


def test_a_process_that_closes_a_file_while_it_is_looked_at_is_killed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["999999", *listed(path)])  # one that was open when they were listed
    held = os.open(tmp_path, os.O_RDONLY)
    with subprocess.Popen(["sleep", "100"], stdin=held) as process:
        os.close(held)
        stop._kill_process(process.pid, str(tmp_path))
        try:
            assert process.wait(10) == -9
        finally:
            process.kill()
