"""The hosts in virtual machines themselves: their own kernel, its modules, control groups version 2, reboots and power cuts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from hosts import cache, sweep
from hosts.fixtures import traces
from hosts.testinfra_backend import inspected
from hosts.vm import VmHost

TESTS = Path(__file__).parents[1]
OWNER = """\
import sys, time
from hosts.vm import VmHost
with VmHost(name=sys.argv[1], progress=lambda line: None) as host:
    host._tell("boot")
    host._event(timeout=30)
    print("on", host._guardian.pid, flush=True)
    time.sleep(1000)
"""


def test_is_a_debian_with_its_own_kernel(bare_vm: VmHost) -> None:
    assert "-cloud-amd64" in bare_vm.check(["uname", "-r"])
    assert bare_vm.check(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]) == "cgroup2fs\n"
    assert bare_vm.check(["systemctl", "is-system-running"]) == "running\n"
    bare_vm.check(["modprobe", "-a", "overlay", "br_netfilter", "nf_conntrack", "xt_conntrack"])
    assert "br_netfilter" in bare_vm.check(["lsmod"])
    for program in ("python3", "docker", "dbus-daemon"):
        assert bare_vm.run(f"command -v {program}").status != 0, program


def test_commands_files_and_terminals_are_as_in_a_container(bare_vm: VmHost, tmp_path: Path) -> None:
    assert bare_vm.run("cat; echo err >&2; exit 7", stdin="in") == (7, "in", "err\n")
    assert bare_vm.run(["printf", "%s", "a b  $HOME 'q'"]).stdout == "a b  $HOME 'q'"
    (tmp_path / "file").write_bytes(b"\x00\xff")
    bare_vm.push(tmp_path, "/opt/pushed")
    bare_vm.pull("/opt/pushed/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"\x00\xff"
    with bare_vm.terminal("tty; read word; echo got $word; exit 5") as terminal:
        terminal.expect("/dev/pts/[0-9]+")
        terminal.send("hello\n")
        terminal.expect("got hello")
        assert terminal.wait() == 5
    assert inspected(bare_vm).service("ssh").is_running


def test_disk_outlives_reboot_and_power_cut(bare_vm: VmHost) -> None:
    before = bare_vm.boot_id()
    bare_vm.check("echo kept > /var/kept; sync /var/kept; touch /run/lost")
    bare_vm.reboot()
    assert bare_vm.boot_id() != before
    assert bare_vm.run("cat /var/kept; test -e /run/lost") == (1, "kept\n", "")
    bare_vm.stop(force=True)
    bare_vm.boot()
    assert bare_vm.check("cat /var/kept") == "kept\n"
    assert "recover" in bare_vm.check(["journalctl", "-b", "-k"])  # the file system noticed
    bare_vm.stop()


def test_prepared_root_is_on_the_disk_and_nothing_is_left(progress: cache.Progress) -> None:
    def prepare(root: Path) -> None:
        (root / "usr/local/bin/ours").write_text("#!/bin/sh\necho ours\n")
        (root / "usr/local/bin/ours").chmod(0o755)

    with VmHost(prepare=prepare, progress=progress) as host:  # not booted: that takes long, and test_docker does
        look = ["debugfs", "-R", "stat /usr/local/bin/ours", os.fspath(host.folder / "disk.raw")]
        assert re.search(r"Mode:\s+0755", subprocess.run(look, check=True, capture_output=True, text=True).stdout)
    assert traces(host.name) == []


def test_owner_killed_and_owner_with_guardian_killed() -> None:
    for name, both in (("orphan-vm", False), ("orphan-vm-twice", True)):
        environment = {**os.environ, "PYTHONPATH": os.fspath(TESTS)}
        process = subprocess.Popen([sys.executable, "-B", "-c", OWNER, name], stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        guardian = int(process.stdout.readline().split()[1])
        if both:
            os.kill(guardian, signal.SIGKILL)
        process.kill()
        process.communicate()
        end = time.monotonic() + 10
        while traces(name) and time.monotonic() < end:
            if both:
                sweep.sweep()
            time.sleep(0.05)
        assert traces(name) == []
