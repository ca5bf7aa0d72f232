"""The process that owns a running host, so that nothing outlives whoever asked for it: `python -m hosts.guardian DIRECTORY`.

One a host, in a session of its own. It holds the lock on the host's directory, starts the host's process (systemd-nspawn, QEMU) under a
pty and in the host's control groups, and keeps what it writes in `console.log`. Lines on standard input tell it what to do:

    boot   start the process              stop   shut the host down in order
    cut    kill it, as a power cut does   end    kill it, remove all that is the host's, exit
    keep   do not end with standard input

It answers with JSON lines. The end of standard input is `end`, so a caller that is killed takes its hosts along; SIGTERM is `stop`, then
`end`. If the guardian itself is killed, its child gets killed by the kernel, and the rest is for the next start's sweep (`hosts.sweep`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hosts import cgroup, image

REBOOT = 133  # systemd-nspawn's status when the host asks for a reboot and its caller keeps the unit
STOP_PATIENCE = 30.0  # seconds that a host gets to shut down in order before it is killed


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a host's directory says of it, in `host.json`: enough to boot it, and to clear it away when its guardian is gone."""

    name: str
    kind: str
    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    stop_argv: list[str] = field(default_factory=list)  # run to shut it down; without one its process's child gets SIGTERM
    cgroups: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)  # directories beside its own that may be left, empty, by a killed process

    def write(self, folder: Path) -> None:
        (folder / "host.json").write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(folder: Path) -> Record:
        return Record(**json.loads((folder / "host.json").read_text()))

    @staticmethod
    def find(folder: Path) -> Record | None:
        """None if the host was killed, or given up, before there was anything to boot."""
        try:
            return Record.read(folder)
        except (FileNotFoundError, ValueError):
            return None


def children(pid: int) -> list[int]:
    """Ids of a process's children; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def clear_away(folder: Path, record: Record | None) -> None:
    """Kill and remove everything of a host whose guardian is this process, or dead: processes, control groups, directories."""
    if record is not None:
        cgroup.remove([Path(group) for group in record.cgroups])
        for left in record.remove:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(left)
    for patience in (0.1, 0.5, 2.0, 0.0):  # whoever was filling the directory may still be dying
        try:
            for path in folder.iterdir():
                if path.name != "lock":  # last, or a sweep would take the rest for a killed run's
                    image.remove_tree(path)
            image.remove_tree(folder)
            return
        except FileNotFoundError:
            return
        except subprocess.CalledProcessError:
            if not patience:
                raise
            time.sleep(patience)


class Guardian:
    """A host's directory and its process, if it is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: Record | None = None  # from the first boot on
        self.keep = False
        self.child: subprocess.Popen[bytes] | None = None
        self.terminal = -1
        self.ending = False
        self.stop_before = 0.0
        self.selector = selectors.DefaultSelector()
        self.pending = b""

    def serve(self) -> None:
        """Do as told until the end."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(theirs.fileno())
        self.selector.register(ours, selectors.EVENT_READ, "signal")
        self.selector.register(0, selectors.EVENT_READ, "command")
        while not (self.ending and self.child is None):
            self.turn(ours)
            if self.stop_before and time.monotonic() > self.stop_before:
                self._cut()

    def turn(self, signals: socket.socket) -> None:
        """Wait for something to happen and see to it. Signals come last: with the process its console goes."""
        happened = {key.data for key, _ in self.selector.select(timeout=1.0 if self.stop_before else None)}
        if "command" in happened:
            self._commands()
        if "console" in happened:
            self._drain()
        if "signal" in happened:
            self._signals(signals.recv(256))

    def _commands(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self.selector.unregister(0)
            if not self.keep:
                self._end()
            return
        self.pending += data
        *lines, self.pending = self.pending.split(b"\n")
        actions: dict[bytes, Callable[[], None]] = {
            b"boot": self._boot,
            b"stop": self._stop,
            b"cut": self._cut,
            b"end": self._end,
            b"keep": self._keep,
        }
        for line in lines:
            actions[line]()

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers and self.child is not None and self.child.poll() is not None:
            self._down()
        if signal.SIGTERM in numbers:
            self.ending = True
            self._stop()

    def _keep(self) -> None:
        self.keep = True

    def _boot(self, *, say: bool = True) -> None:
        self.record = record = Record.read(self.folder)
        master, slave = pty.openpty()
        groups = [Path(group) for group in record.cgroups]

        def enter() -> None:
            image.die_with_parent()
            cgroup.join(groups)

        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **record.environment}
        try:
            self.child = subprocess.Popen(
                record.argv,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                cwd=self.folder,
                env=environment,
                preexec_fn=enter,
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(master)
            self._say(event="failed", reason=str(error))
            return
        finally:
            os.close(slave)
        (self.folder / "pid.new").write_text(str(self.child.pid))
        (self.folder / "pid.new").rename(self.folder / "pid")  # whoever waits for it reads all of it
        self.terminal = master
        self.selector.register(master, selectors.EVENT_READ, "console")
        if say:
            self._say(event="up", pid=self.child.pid)

    def _drain(self) -> None:
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # EIO: nobody has the other end open
            data = b""
        if data:
            with (self.folder / "console.log").open("ab") as log:
                log.write(data)
        else:
            self.selector.unregister(self.terminal)
            os.close(self.terminal)
            self.terminal = -1

    def _stop(self) -> None:
        if self.child is None or self.record is None:
            return
        self.stop_before = time.monotonic() + STOP_PATIENCE
        if self.record.stop_argv:
            subprocess.Popen(
                self.record.stop_argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder
            )
        else:
            for pid in children(self.child.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _cut(self) -> None:
        if self.child is not None:
            self.child.kill()

    def _end(self) -> None:
        self.ending = True
        self._cut()

    def _down(self) -> None:
        assert self.child is not None
        assert self.record is not None
        status = self.child.returncode
        self.child = None
        (self.folder / "pid").unlink()
        self.stop_before = 0.0
        while self.terminal >= 0 and any(key.data == "console" for key, _ in self.selector.select(timeout=0)):
            self._drain()
        if self.terminal >= 0:
            self.selector.unregister(self.terminal)
            os.close(self.terminal)
            self.terminal = -1
        cgroup.kill([Path(group) for group in self.record.cgroups])
        for left in self.record.remove:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(left)
        if status == REBOOT and not self.ending:
            self._boot(say=False)
        else:
            self._say(event="down", status=status)

    def _say(self, **event: object) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(1, json.dumps(event).encode() + b"\n")


def main() -> None:
    guardian = Guardian(Path(sys.argv[1]))
    (guardian.folder / "guardian.pid").write_text(str(os.getpid()))
    try:
        guardian.serve()
    finally:
        if guardian.child is not None:
            guardian.child.kill()
            guardian.child.wait()
        clear_away(guardian.folder, Record.find(guardian.folder))


if __name__ == "__main__":
    main()
