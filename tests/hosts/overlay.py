"""Overlays that give a host its own view of a cached root without copying it, in mounts that nobody else sees and that end with us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CLONE_NEWNS = 0x20000
_libc = ctypes.CDLL(None, use_errno=True)


class Overlay(NamedTuple):
    """`upper` over `lower`, seen at `target`; `work` is overlayfs's own, on the file system of `upper`."""

    lower: Path
    upper: Path
    work: Path
    target: Path

    def make_directories(self) -> None:
        for path in (self.upper, self.work, self.target):
            path.mkdir(exist_ok=True)
        os.chmod(self.upper, os.stat(self.lower).st_mode & 0o7777)

    def mount_argv(self) -> list[str]:
        return [
            "mount",
            "-t",
            "overlay",
            "-o",
            f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work}",
            "overlay",
            os.fspath(self.target),
        ]

    def around(self, argv: list[str]) -> list[str]:
        """The command that runs `argv` as its only child, with this overlay, in mount and process namespaces of their own.

        If the command is killed, the kernel kills all that `argv` started: systemd-nspawn alone leaves the host's systemd running then.
        """
        unshare = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*unshare, "sh", "-c", f'{shlex.join(self.mount_argv())} && exec "$@"', "sh", *argv]

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """See the overlay in this thread and in what it starts, and nowhere else. Raises OSError."""
        with _private_mounts():
            subprocess.run(self.mount_argv(), check=True)
            yield self.target


@contextlib.contextmanager
def _private_mounts() -> Iterator[None]:
    """A mount namespace of this thread's own (unshare(2)); afterwards back in the old one (setns(2)) and in the old working directory."""
    cwd = os.open(".", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNS) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"unshare: {os.strerror(number)}")
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            yield
        finally:
            if _libc.setns(namespace, _CLONE_NEWNS) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"setns: {os.strerror(number)}")
            os.fchdir(cwd)
    finally:
        os.close(namespace)
        os.close(cwd)
