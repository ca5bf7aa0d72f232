"""Hosts as virtual machines of QEMU, with a kernel of their own: for modules, control groups version 2, reboots and power cuts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hosts import cache, cgroup, image
from hosts.guardian import Record
from hosts.host import Host, HostDownError

QEMU = "qemu-system-x86_64"
_SOCKET_PATH_LIMIT = 90  # of 108 bytes; ssh appends some while it makes the socket
# Every line on the console and every mitigation costs an emulated machine a quarter of its boot.
_KERNEL_ARGUMENTS = "root=/dev/vda console=ttyS0 net.ifnames=0 quiet loglevel=4 mitigations=off"
_SSH_OPTIONS = """\
Host host
 HostName 127.0.0.1
 Port {port}
 User root
 IdentityFile "{key}"
 IdentitiesOnly yes
 BatchMode yes
 StrictHostKeyChecking no
 UserKnownHostsFile /dev/null
 LogLevel ERROR
 ConnectTimeout 120
 ServerAliveInterval 30
 ServerAliveCountMax 10
 {control}
"""


def lacking() -> str:
    """Why this machine cannot run such hosts; empty if it can."""
    if os.geteuid() != 0:
        return "hosts need root"
    missing = [program for program in (QEMU, "qemu-img", "mmdebstrap", "mke2fs", "ssh", "ssh-keygen") if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def accelerator(kernel: Path, *, progress: cache.Progress = cache.to_stderr) -> str:
    """`kvm` if a Linux kernel really gets to its end with it here, else `tcg,thread=multi`. Tried once a kernel, for at most 10 s.

    /dev/kvm alone says little: nested in some clouds it opens, and then the guest does not run one instruction.
    """
    emulated = "tcg,thread=multi"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return emulated
    known = cache.directory() / f"kvm-{os.uname().release}-{os.uname().machine}"
    if not known.exists():
        progress("trying KVM (once)")
        argv = [QEMU, *_machine("kvm"), "-m", "256", "-serial", "stdio", "-no-reboot"]
        argv += ["-kernel", os.fspath(kernel), "-append", "console=ttyS0 panic=-1"]
        try:
            said = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False, preexec_fn=image.die_with_parent
            ).stdout
        except subprocess.TimeoutExpired as late:
            said = late.stdout or b""
        known.write_text("kvm" if b"Kernel panic - not syncing: VFS" in said else emulated)
    return known.read_text()


def _machine(accelerated_by: str) -> list[str]:
    # KVM in a cloud may offer the MSR of arch-capabilities and refuse to set it, which ends QEMU. Emulated, what newer processors have,
    # such as wide vectors and five levels of pages, costs a sixth of a boot, and a second processor a third.
    cpu = "max,-arch-capabilities" if accelerated_by == "kvm" else "Nehalem"
    return ["-accel", accelerated_by, "-machine", "q35", "-cpu", cpu, "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none"]


def cable_between(folder: Path) -> tuple[str, str]:
    """Both ends of a cable between two hosts, over a socket in `folder`; the host of the first has to be up before the other boots.

    Their network cards are 52:54:00:77:00:01 and …:02.
    """
    ends = (f"stream,server={'on' if number == 1 else 'off'},addr.type=unix,addr.path={folder}/cable" for number in (1, 2))
    first, second = (f"{end},mac=52:54:00:77:00:0{number}" for number, end in enumerate(ends, 1))
    return first, second


class VmHost(Host):
    """A host in a virtual machine. It reaches nothing but itself; this machine reaches its ssh on a free port of loopback."""

    kind = "vm"
    boot_timeout = 480.0  # 18 s on an idle machine, but emulated, and so at the mercy of what else runs there
    slowness = 10.0

    def __init__(
        self,
        flavour: image.Flavour = image.DEBIAN12_VM,
        *,
        prepare: Callable[[Path], None] | None = None,
        name: str | None = None,
        memory: int = 2048,
        usr_apart: bool = False,
        cable: str = "",
        progress: cache.Progress = cache.to_stderr,
    ) -> None:
        """Make the host, off: the cached disk under an overlay, or one of its own, of a root that `prepare` may change; `memory` in MiB.

        With `usr_apart`, /usr is a second disk, mounted read only. `cable` is an end from `cable_between`: a second network card on it.
        """
        super().__init__(name=name, progress=progress)
        self._master: subprocess.Popen[bytes] | None = None
        try:
            if prepare is None and not usr_apart:
                disk = image.disk(flavour, progress=progress)
                _overlay(disk.image, self.folder / "disk.qcow2")
                drives = ["disk.qcow2,format=qcow2"]
            else:
                whole = image.whole_root(flavour, self.folder, progress=progress)
                with whole.mounted() as tree:
                    if prepare is not None:
                        prepare(tree)
                    if usr_apart:
                        image.make_usr_disk(tree, self.folder)
                    disk = image.make_disk(tree, self.folder)
                for path in whole[1:]:
                    image.remove_tree(path)
                drives = ["disk.raw,format=raw"] + ["usr.raw,format=raw,readonly=on"] * usr_apart
            self._disk = disk
            self._root_first = "ro" if usr_apart else "rw"  # as it is asked for /usr, too, before there is an fstab to read
            self._machine_argv = ["-m", str(memory)]
            for drive in drives:
                self._machine_argv += ["-drive", f"file={drive},if=virtio,cache=writeback,discard=unmap"]
            if cable:
                backend, _, mac = cable.rpartition(",mac=")
                self._machine_argv += ["-netdev", f"{backend},id=cable", "-device", f"virtio-net-pci,netdev=cable,mac={mac}"]
            self.set_kernel_arguments()
        except BaseException:
            self.close()
            raise

    def set_kernel_arguments(self, *arguments: str) -> None:
        """What the kernel is told beside the usual, from the next `boot` on (a reboot from inside keeps what it was started with)."""
        self.record(self._to_boot(arguments))

    def _to_boot(self, arguments: Sequence[str]) -> Record:
        disk = self._disk
        argv = [QEMU, *_machine(accelerator(disk.kernel, progress=self.progress)), *self._machine_argv]
        argv += ["-kernel", os.fspath(disk.kernel), "-initrd", os.fspath(disk.initrd)]
        argv += ["-append", " ".join([_KERNEL_ARGUMENTS, self._root_first, *arguments]), "-device", "virtio-rng-pci"]
        argv += ["-nic", "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"]
        argv += ["-serial", "stdio", "-qmp", "unix:qmp,server=on,wait=off"]
        shut_down = ["ssh", "-F", "ssh_config", "host", "systemctl", "poweroff"]
        return Record(
            name=self.name, kind=self.kind, argv=argv, stop_argv=shut_down, cgroups=[os.fspath(group) for group in cgroup.create(self.name)]
        )

    def wait_until_booted(self, *, timeout: float) -> None:
        until = time.monotonic() + timeout
        port = self._forwarded_port(until)
        control = self.folder / "ssh"
        persistent = len(os.fspath(control)) < _SOCKET_PATH_LIMIT
        control_option = f'ControlPath "{control}"' if persistent else ""
        (self.folder / "ssh_config").write_text(_SSH_OPTIONS.format(port=port, key=image.ssh_key(), control=control_option))
        while not _answers(port):
            self._give_up_after(until)
            time.sleep(0.2)
        self._hang_up()
        if persistent:
            argv = ["ssh", "-F", "ssh_config", "-M", "-N", "host"]
            with (self.folder / "ssh.log").open("ab") as log:
                self._master = subprocess.Popen(
                    argv,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=image.die_with_parent,
                )
            while not control.exists():
                if self._master.poll() is not None:
                    raise HostDownError(f"ssh to {self.name} ended: {(self.folder / 'ssh.log').read_text()}")
                self._give_up_after(until)
                time.sleep(0.02)
        while not self.has_booted(timeout=timeout):
            self._give_up_after(until)
            time.sleep(0.2)

    def _give_up_after(self, until: float) -> None:
        said = self.console.read_bytes() if self.console.exists() else b""
        panicked = b"end Kernel panic" in said or said.rstrip().endswith(b"(initramfs)")
        if time.monotonic() > until or panicked or not (self.folder / "pid").exists():
            raise HostDownError(f"{self.name} does not come up; its console:\n{self.console_end()}")

    def _forwarded_port(self, until: float) -> int:
        """The port that the kernel chose for QEMU: no race for a free one."""
        while True:
            try:
                with _Monitor(self.folder) as monitor:
                    said = monitor.execute("human-monitor-command", **{"command-line": "info usernet"})
            except (FileNotFoundError, ConnectionRefusedError):
                self._give_up_after(until)
                time.sleep(0.02)
                continue
            if match := re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", str(said)):
                return int(match[1])
            raise HostDownError(f"QEMU forwards no port: {said}")

    def reboot(self) -> None:
        with _Monitor(self.folder) as monitor:
            process = self.popen(["systemctl", "reboot"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                monitor.wait_for("RESET", timeout=self.boot_timeout)
            finally:  # its connection has lost its other end without a word
                process.kill()
                process.wait()
        self.wait_until_booted(timeout=self.boot_timeout)

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()

    def stop(self, *, force: bool = False, timeout: float = 60.0) -> None:
        super().stop(force=force, timeout=timeout)
        self._hang_up()

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()
            self._master = None
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "ssh").unlink()

    def local_argv(self, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool = False) -> list[str]:
        return ssh_argv(self.folder, argv, environment, tty=tty)


def ssh_argv(folder: Path, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool) -> list[str]:
    """The command on this machine that runs `argv` on the host whose directory this is."""
    remote = ["exec", "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *argv]
    return ["ssh", "-F", os.fspath(folder / "ssh_config"), "-tt" if tty else "-T", "host", shlex.join(remote)]


def _overlay(backing: Path, target: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.fspath(backing), os.fspath(target)], check=True)


def _answers(port: int) -> bool:
    """Whether an ssh server greets there; QEMU itself accepts connections long before the host does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


class _Monitor:
    """A connection by the QEMU Machine Protocol. The socket is reached by a descriptor, since its path may be too long for one."""

    def __init__(self, folder: Path) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        directory = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            self.connection.connect(f"/proc/self/fd/{directory}/qmp")
            self.lines = self.connection.makefile("rw")
            self.execute("qmp_capabilities")
        except BaseException:
            self.connection.close()
            raise
        finally:
            os.close(directory)

    def execute(self, command: str, **arguments: object) -> object:
        """What QEMU answers to a command. Raises HostDownError if it refuses."""
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while "return" not in (answer := self._next(timeout=10)):
            if "error" in answer:
                raise HostDownError(f"QEMU refuses {command}: {answer['error']}")
        return answer["return"]

    def wait_for(self, event: str, *, timeout: float) -> None:
        """Until QEMU tells of `event`. Raises TimeoutError after so many seconds without a word from it."""
        while self._next(timeout=timeout).get("event") != event:
            pass

    def _next(self, *, timeout: float) -> dict[str, Any]:
        self.connection.settimeout(timeout)
        line = self.lines.readline()
        if not line:
            raise ConnectionRefusedError("QEMU has ended")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.lines.close()
        self.connection.close()
