"""Where roots, disks and running hosts live: below ${SKIM_CACHE:-~/.cache/skim}, never in the repository."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[str], None]


def directory() -> Path:
    """The cache's root, made when missing; an absolute path without links, as nspawn and mmdebstrap want it."""
    path = Path(os.environ.get("SKIM_CACHE") or Path.home() / ".cache/skim").absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def running_hosts() -> Path:
    """One directory a host that is up, or that was when its guardian got killed."""
    path = directory() / "hosts"
    path.mkdir(exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive flock on `path` (made when missing, never removed: a removed lock file is two locks).

    `waiting` is called once if somebody else holds it.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def to_stderr(line: str) -> None:
    """The usual `Progress`."""
    print(line, file=sys.stderr, flush=True)
