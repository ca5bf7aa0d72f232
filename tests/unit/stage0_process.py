"""`python -m stage0` as a process, on a data directory of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stub_stage1 import app_image, stub_stage1

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: pods are made by root")
Result = subprocess.CompletedProcess[str]


class Stage0:
    """Runs `python -m stage0` on a data directory; `prefix` puts it into a mount namespace."""

    def __init__(self, directory: Path, prefix: list[str] | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.prefix = prefix or []
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.stage1 = stub_stage1(directory / "stage1.aci")
        self.app = app_image(directory / "app.aci")

    def command(self, *arguments: str) -> list[str]:
        options = [
            f"--dir={self.data}",
            "--insecure-options=image",
            f"--local-config={self.directory}",
            f"--system-config={self.directory}",
        ]
        return [*self.prefix, sys.executable, "-m", "stage0", *options, *arguments]

    def __call__(self, *arguments: str, **environment: str) -> Result:
        return subprocess.run(
            self.command(*arguments), env={**self.environment, **environment}, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        def heed_signals() -> None:  # a shell's background job, or what nohup started, ignores some, and so would its children
            for number in (signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)

        environment = {**self.environment, **environment}
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*arguments), env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_signals)

    def ok(self, *arguments: str) -> str:
        """What it printed, or a failure of the test."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def prepare(self, *arguments: str) -> str:
        return self.ok("prepare", f"--stage1-path={self.stage1}", *arguments, str(self.app), "--name=app")

    def pods(self) -> dict[str, list[str]]:
        return {state.name: names for state in sorted((self.data / "pods").iterdir()) if (names := [pod.name for pod in state.iterdir()])}

    def pod(self, uuid: str, state: str = "run") -> Path:
        return self.data / "pods" / state / uuid


@contextmanager
def in_mount_namespace(directory: Path) -> Iterator[Stage0]:
    """stage0 in a mount namespace that goes away with everything in it."""
    holder = subprocess.Popen(["unshare", "--mount", "--propagation=private", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    if not holder.stdout.readline():
        pytest.skip("needs a mount namespace: unshare --mount does not work here")
    try:
        yield Stage0(directory, ["nsenter", f"--target={holder.pid}", "--mount", f"--wd={ROOT}"])
    finally:
        holder.kill()
        holder.communicate()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
