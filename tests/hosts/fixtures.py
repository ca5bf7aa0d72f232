"""What the conftests of tests/host and tests/vm share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hosts import cache


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> cache.Progress:
    """Writes to the terminal past pytest's capturing: building a root for the first time takes half a minute."""
    capturing = pytestconfig.pluginmanager.getplugin("capturemanager")

    def show(line: str) -> None:
        if capturing is None:
            cache.to_stderr(line)
            return
        with capturing.global_and_fixture_disabled():
            print(f"\n{line}", end="", file=sys.stderr, flush=True)

    return show


def need(reason: str) -> None:
    """Skip where this machine lacks what `reason` says, if it says anything; fail where hosts are required (SKIM_REQUIRE_HOSTS)."""
    if reason and os.environ.get("SKIM_REQUIRE_HOSTS"):
        pytest.fail(f"{reason} (SKIM_REQUIRE_HOSTS is set, so this is no skip)", pytrace=False)
    if reason:
        pytest.skip(reason)


def traces(name: str) -> list[str]:
    """All that is left of the host called `name` on this machine: processes, mounts in any namespace, control groups, directories."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"/hosts/{name}" in (process / "cmdline").read_text() or f"skim-{name}" in (process / "cmdline").read_text():
                found.append(f"process {process.name}: {(process / 'cmdline').read_text()}")
            if f"/hosts/{name}/" in (process / "mountinfo").read_text():
                found.append(f"mounts of process {process.name}")
            if f"skim-host-{name}/" in (process / "cgroup").read_text().replace("\n", "/\n"):
                found.append(f"process {process.name} in its control groups")
        except OSError:
            continue
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(folder, entry) for entry in below if entry == f"skim-host-{name}"]
    for path in (cache.running_hosts() / name, Path(f"/run/systemd/nspawn/propagate/skim-{name}")):
        if path.exists():
            found.append(f"{path}: {list(path.iterdir())}")
    return found
