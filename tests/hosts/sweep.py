"""What a killed guardian left behind: found by its free lock, and cleared away at the next start of any host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hosts import cache, guardian


def register(name: str) -> tuple[Path, int]:
    """Make a new host's directory, locked by a descriptor to hand to its guardian. No sweep takes it in between."""
    folder = cache.running_hosts() / name
    with cache.locked(cache.directory() / "hosts.lock"):
        folder.mkdir(mode=0o755)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def sweep(progress: cache.Progress = cache.to_stderr) -> list[str]:
    """Clear away every host that has no guardian any more, and return their names."""
    names = []
    with cache.locked(cache.directory() / "hosts.lock"):
        for folder in sorted(cache.running_hosts().iterdir()):
            if _guarded(folder):
                continue
            progress(f"clearing away {folder.name}, which a killed run left")
            guardian.clear_away(folder, guardian.Record.find(folder))
            names.append(folder.name)
    return names


def running() -> Iterator[tuple[Path, guardian.Record]]:
    """Directories and records of the hosts that have a guardian."""
    for folder in sorted(cache.running_hosts().iterdir()):
        record = guardian.Record.find(folder)
        if record is not None and _guarded(folder):
            yield folder, record


def _guarded(folder: Path) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
