"""Hosts as containers: a whole Debian under its own systemd in a third of a second, on this machine's kernel.

Needs root. What systemd-nspawn does not isolate is kept from the host's boot: it sets no sysctl and loads no module of this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hosts import cache, cgroup, image
from hosts.guardian import Record, children
from hosts.host import Host, HostDownError

# What would reach out of the container: settings and modules of the machine's kernel.
_NOT_IN_A_CONTAINER = ("systemd-sysctl", "systemd-modules-load", "systemd-binfmt", "systemd-pstore", "systemd-random-seed")
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441

_libc = ctypes.CDLL(None, use_errno=True)


def lacking() -> str:
    """Why this machine cannot run such hosts; empty if it can."""
    if os.geteuid() != 0:
        return "hosts need root"
    missing = [program for program in ("systemd-nspawn", "mmdebstrap", "nsenter", "unshare") if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


class NspawnHost(Host):
    """A host in a container."""

    kind = "nspawn"

    def __init__(
        self,
        flavour: image.Flavour = image.DEBIAN12,
        *,
        prepare: Callable[[Path], None] | None = None,
        name: str | None = None,
        progress: cache.Progress = cache.to_stderr,
    ) -> None:
        """Make the host, down, with a root of its own, which `prepare` may change. Raises what `prepare` raises; nothing is left then."""
        super().__init__(name=name, progress=progress)
        try:
            self._usr = image.own_root(flavour, self.folder, progress=progress)
            root = self.folder / "root"
            (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
            for unit in _NOT_IN_A_CONTAINER:
                (root / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
            if prepare is not None:
                with self.root() as root:
                    prepare(root)
            self.record(self._to_boot())
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def root(self) -> Iterator[Path]:
        """The whole root, to be looked at and changed while the host is down. Only this thread, and what it starts, sees all of it."""
        with self._usr.mounted():
            yield self.folder / "root"

    def _to_boot(self) -> Record:
        machine = f"skim-{self.name}"
        argv = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", f"--machine={machine}", "--hostname=host"]
        argv += [f"--directory={self.folder / 'root'}", "--boot", "--console=read-only", "--capability=all", "--private-network"]
        argv += ["--system-call-filter=add_key keyctl bpf", "--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        return Record(
            name=self.name,
            kind=self.kind,
            argv=self._usr.around(argv),
            environment={"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1", "SYSTEMD_SECCOMP": "0", "SYSTEMD_NSPAWN_LOCK": "0"},
            cgroups=[os.fspath(group) for group in cgroup.create(self.name)],
            remove=[f"/run/systemd/nspawn/propagate/{machine}"],
        )

    def pid1(self) -> int:
        """The host's PID 1, as this machine numbers it. Raises HostDownError if it is down."""
        found = pid1_of(self.folder)
        if found is None:
            raise HostDownError(f"{self.name} is down\n{self.console_end()}")
        return found

    def wait_until_booted(self, *, timeout: float) -> None:
        until = time.monotonic() + timeout
        seen, remounted = 0, False
        while time.monotonic() < until:
            pid = pid1_of(self.folder)
            if pid is not None and pid != seen:
                seen, remounted = pid, _make_cgroups_writable(pid)
            if pid is not None and os.path.exists(f"/proc/{pid}/root/run/systemd/private") and self.has_booted(timeout=timeout):
                if remounted:
                    # systemd looks once, when it starts, which controllers it may use: without this their limits would be words.
                    self.check(["systemctl", "daemon-reexec"])
                return
            if self._guardian.poll() is not None:
                break
            time.sleep(0.005)
        raise HostDownError(f"{self.name} is not up after {timeout:g} s; its console:\n{self.console_end()}")

    def reboot(self) -> None:
        before = self.pid1()
        self.run(["systemctl", "reboot"])
        until = time.monotonic() + 60
        while pid1_of(self.folder) in (None, before):
            if time.monotonic() > until:
                raise HostDownError(f"{self.name} does not go down\n{self.console_end()}")
            time.sleep(0.005)
        self.wait_until_booted(timeout=self.boot_timeout)

    def local_argv(self, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False) -> list[str]:
        return nsenter_argv(self.pid1(), argv, environment)

    def enter(self) -> None:
        cgroup.join(session_groups(self.pid1()))

    def open_pty(self) -> tuple[int, int]:
        """A pseudoterminal of the host's own /dev/pts, so that ttyname(3) works there."""
        master = os.open(f"/proc/{self.pid1()}/root/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = _libc.ioctl(master, ctypes.c_ulong(_TIOCGPTPEER), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if slave < 0:
            number = ctypes.get_errno()
            os.close(master)
            raise OSError(number, f"TIOCGPTPEER: {errno.errorcode.get(number, number)}")
        return master, slave


def pid1_of(folder: Path) -> int | None:
    """PID 1 of the host whose directory this is, once systemd runs there; None before, and when the host is down."""
    try:
        below = [int((folder / "pid").read_text())]
        for _ in range(3):  # unshare, systemd-nspawn, systemd
            below = [child for pid in below for child in children(pid)]
            for pid in below:
                inside = re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
                if inside is not None and inside[1] == "1" and Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def nsenter_argv(pid: int, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command on this machine that runs `argv` on the host whose PID 1 this is."""
    return ["nsenter", f"--target={pid}", "--all", "--", "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *argv]


def _make_cgroups_writable(pid: int) -> bool:
    """Whether there was something to do: systemd-nspawn mounts the controllers of version 1 read only, and systemd and Docker use them."""
    targets = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup" and "ro" in fields[5].split(","):
            targets.append(fields[4])
    if targets:
        script = 'for group; do mount -o remount,bind,rw "$group"; done'
        subprocess.run(["nsenter", f"--target={pid}", "--mount", "--", "sh", "-c", script, "sh", *targets], check=True, capture_output=True)
    return bool(targets)


def session_groups(pid: int) -> list[Path]:
    """Where a login's processes would be: a session's scope in the hierarchies that systemd manages, beside PID 1 in the others."""
    groups = []
    for group in cgroup.of(pid):
        groups.append(group.parent / "user.slice/user-0.slice/session-test.scope" if group.name == "init.scope" else group)
    return groups
