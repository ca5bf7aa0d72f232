"""What every host can do, whether it is a container or a virtual machine, and the owner's side of its guardian."""

from __future__ import annotations

import abc
import contextlib
import itertools
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, NamedTuple, Self

from hosts import cache, sweep
from hosts.guardian import Record
from hosts.terminal import Terminal

Command = str | Sequence[str]  # shell text, or a program and its arguments

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "LANG": "C.UTF-8",
}
_numbers = itertools.count(1)


class Completed(NamedTuple):
    """What a command on a host left: exit status (negative: the signal that killed it) and its output."""

    status: int
    stdout: str
    stderr: str


class HostError(Exception):
    """A command on a host that had to work and did not; what is tested has failed, as a rule."""


class HostDownError(HostError):
    """The host itself does not come up, or is gone. The only failure that is tried again: anything else may be a race of ours."""


class Host(abc.ABC):
    """A throw-away host: it exists from the constructor on and is up after `boot`; all of it is gone after `close`, or with its owner."""

    kind = ""
    slowness = 1.0
    """By how much every time that a test allows is stretched: an emulated machine is many times slower than this one."""
    of_this_process: ClassVar[weakref.WeakSet[Host]] = weakref.WeakSet()
    """All that were made here and that somebody still holds, up or not."""

    def __init__(self, *, name: str | None = None, progress: cache.Progress = cache.to_stderr) -> None:
        sweep.sweep(progress)
        self.name = name or f"{self.kind}-{os.getpid()}-{next(_numbers)}"
        self.progress = progress
        self.folder, lock = sweep.register(self.name)
        environment = {**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[1])}
        self._guardian_log = tempfile.TemporaryFile()  # noqa: SIM115 - read when the guardian is gone, and its directory with it
        self._guardian = subprocess.Popen(
            [sys.executable, "-B", "-m", "hosts.guardian", os.fspath(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._guardian_log,
            pass_fds=[lock],
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        os.close(lock)
        self._events = b""
        self._kept = False
        self.of_this_process.add(self)

    def __repr__(self) -> str:
        return f"<{self.kind} host {self.name}>"

    # Up and down

    @abc.abstractmethod
    def wait_until_booted(self, *, timeout: float) -> None:
        """Until systemd has started all that it starts at boot. Raises HostDownError, with the end of the console's text."""

    def has_booted(self, *, timeout: float) -> bool:
        """Wait for systemd to have started all of that, and say whether it has."""
        try:
            state = self.run(["systemctl", "is-system-running", "--wait"], timeout=timeout).stdout.strip()
        except subprocess.TimeoutExpired:
            return False
        return state in ("running", "degraded")

    def boot(self, *, timeout: float | None = None) -> None:
        """Start it (again), and wait until it is up; seconds. Raises HostDownError."""
        self._tell("boot")
        event = self._event(timeout=30)
        if event["event"] != "up":
            raise HostDownError(f"{self.name} does not start: {event.get('reason') or event}\n{self.console_end()}")
        self.wait_until_booted(timeout=timeout or self.boot_timeout)

    boot_timeout = 30.0

    def stop(self, *, force: bool = False, timeout: float = 60.0) -> None:
        """Shut it down in order, or cut its power; its disk stays, and it can be booted again."""
        self._tell("cut" if force else "stop")
        self._event(timeout=timeout)

    @abc.abstractmethod
    def reboot(self) -> None:
        """Reboot from inside (systemctl reboot), and wait until it is up again."""

    def close(self) -> None:
        """End it, however it is, and remove all of it. Twice is fine."""
        if self._guardian.stdin is not None and not self._guardian.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.close()
            self._guardian_log.close()
            assert self._guardian.stdout is not None
            if self._kept:
                self._guardian.stdout.close()
                self._guardian.returncode = 0  # it runs on: nothing for subprocess to warn of
                return
            self._guardian.wait(timeout=60)
            self._guardian.stdout.close()
            if self.folder.exists():  # the guardian was killed, or failed
                sweep.sweep(self.progress)

    def keep(self) -> None:
        """Let it outlive this process and `close`; `python -m hosts stop NAME` ends it."""
        self._tell("keep")
        self._kept = True

    def last_words(self, lines: int = 60) -> str:
        """The end of its journal, or of its console where that cannot be had, for who wonders why a test failed; empty after `close`."""
        try:
            return self.check(["journalctl", "--no-pager", "--output=short-monotonic", f"--lines={lines}"], timeout=10)
        except (HostError, OSError, subprocess.TimeoutExpired):
            return self.console_end(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Commands

    @abc.abstractmethod
    def local_argv(self, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False) -> list[str]:
        """The command on this machine that runs `argv` on the host."""

    def enter(self) -> None:  # noqa: B027 - a virtual machine needs nothing
        """In a child on this machine, before its exec: what it takes to be among the host's processes."""

    def popen(
        self, command: Command, *, environment: Mapping[str, str] | None = None, user: str = "root", **arguments: Any
    ) -> subprocess.Popen[Any]:
        """Start a command on the host, in a session and a process group of its own, with pipes or files as subprocess.Popen takes them."""
        argv = self.local_argv(_as_user(command, user), ENVIRONMENT | _of_user(user) | dict(environment or {}))
        return subprocess.Popen(argv, start_new_session=True, preexec_fn=self.enter, **arguments)

    def run(
        self,
        command: Command,
        *,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        user: str = "root",
        timeout: float = 120.0,
    ) -> Completed:
        """Run a command on the host to its end.

        Raises subprocess.TimeoutExpired after `timeout` seconds, times `slowness`; the command is killed then.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = self.popen(
            command, environment=environment, user=user, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            try:
                out, err = process.communicate(data, timeout=timeout * self.slowness)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return Completed(status=process.returncode, stdout=out.decode(errors="replace"), stderr=err.decode(errors="replace"))

    def check(self, command: Command, **arguments: Any) -> str:
        """Run a command that has to work, and return what it wrote. Raises HostError with all that it said."""
        done = self.run(command, **arguments)
        if done.status != 0:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise HostError(f"on {self.name}, status {done.status} of: {shown}\n{done.stdout}{done.stderr}")
        return done.stdout

    def terminal(
        self, command: Command, *, environment: Mapping[str, str] | None = None, user: str = "root", rows: int = 24, columns: int = 80
    ) -> Terminal:
        """Start a command on the host on a terminal, as a person would."""
        master, slave = self.open_pty()
        argv = self.local_argv(
            _as_user(command, user), ENVIRONMENT | _of_user(user) | {"TERM": "xterm"} | dict(environment or {}), tty=True
        )
        return Terminal(argv, master, slave, before_exec=self.enter, rows=rows, columns=columns, slowness=self.slowness)

    def open_pty(self) -> tuple[int, int]:
        """Both ends of a pseudoterminal for `terminal`."""
        return os.openpty()

    def wait_until(self, command: Command, *, timeout: float = 30.0, **arguments: Any) -> str:
        """Run a command again and again until its status is 0; what it wrote then. Raises HostError with what it said last."""
        until = time.monotonic() + timeout * self.slowness
        while True:
            done = self.run(command, **arguments)
            if done.status == 0:
                return done.stdout
            if time.monotonic() > until:
                raise HostError(f"on {self.name}, not within {timeout:g} s: {command}\n{done.stdout}{done.stderr}")
            time.sleep(0.05)

    # Files

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file on the host, with the directories it takes."""
        self.check(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"', "sh", path, f"{mode:o}"], stdin=content)

    def read(self, path: str) -> bytes:
        """A file of the host."""
        return self._output_of(["cat", path])

    def push(self, source: Path, target: str) -> None:
        """Copy a local file or directory to the name `target` on the host; a directory's content is added to one that is there."""
        if source.is_dir():
            with subprocess.Popen(["tar", "-C", os.fspath(source), "-c", "."], stdout=subprocess.PIPE) as tar:
                self._feed(["sh", "-c", 'mkdir -p "$1" && tar -C "$1" -x', "sh", target], tar.stdout)
        else:
            with source.open("rb") as file:
                command = [
                    "sh",
                    "-c",
                    'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"',
                    "sh",
                    target,
                    f"{source.stat().st_mode & 0o7777:o}",
                ]
                self._feed(command, file)

    def pull(self, source: str, target: Path) -> None:
        """Copy a file or directory of the host to the local name `target`."""
        if self.run(["test", "-d", source]).status == 0:
            target.mkdir(parents=True, exist_ok=True)
            with self.popen(["tar", "-C", source, "-c", "."], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as tar:
                subprocess.run(["tar", "-C", os.fspath(target), "-x"], stdin=tar.stdout, check=True)
        else:
            target.write_bytes(self.read(source))

    def _feed(self, command: Command, file: IO[Any] | None) -> None:
        with self.popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            said = process.communicate()[0]
        if process.returncode != 0:
            raise HostError(f"on {self.name}, status {process.returncode} of {command}: {said.decode(errors='replace')}")

    def _output_of(self, command: Command) -> bytes:
        with self.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, err = process.communicate()
        if process.returncode != 0:
            raise HostError(f"on {self.name}, status {process.returncode} of {command}: {err.decode(errors='replace')}")
        assert isinstance(out, bytes)
        return out

    # The guardian

    @property
    def console(self) -> Path:
        """What the host wrote on its console since it exists."""
        return self.folder / "console.log"

    def console_end(self, lines: int = 30) -> str:
        """The last lines of the console, without escape sequences."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[^\[])", "", text).replace("\r", "").splitlines()[-lines:])

    def record(self, record: Record) -> None:
        """Say what the guardian boots."""
        record.write(self.folder)

    def _tell(self, word: str) -> None:
        assert self._guardian.stdin is not None
        try:
            self._guardian.stdin.write(word.encode() + b"\n")
            self._guardian.stdin.flush()
        except BrokenPipeError as error:
            raise self._guardian_gone() from error

    def _guardian_gone(self) -> HostDownError:
        self._guardian_log.seek(0)
        return HostDownError(f"the guardian of {self.name} is gone\n{self._guardian_log.read().decode(errors='replace')}")

    def _event(self, *, timeout: float) -> dict[str, Any]:
        """The guardian's next event. Raises HostDownError when none comes within `timeout` seconds."""
        assert self._guardian.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._events:
            if not select.select([self._guardian.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise HostDownError(f"{self.name} is neither up nor down after {timeout:g} s\n{self.console_end()}")
            data = os.read(self._guardian.stdout.fileno(), 4096)
            if not data:
                raise self._guardian_gone()
            self._events += data
        line, _, self._events = self._events.partition(b"\n")
        event = json.loads(line)
        assert isinstance(event, dict)
        return event


def _as_user(command: Command, user: str) -> list[str]:
    argv = ["sh", "-c", command] if isinstance(command, str) else [os.fspath(word) for word in command]
    return argv if user == "root" else ["runuser", "-u", user, "--", *argv]


def _of_user(user: str) -> dict[str, str]:
    return {} if user == "root" else {"USER": user, "LOGNAME": user, "HOME": f"/home/{user}"}
