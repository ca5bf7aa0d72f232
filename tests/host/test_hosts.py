"""The hosts in containers themselves: fresh, apart from each other, bare, and gone without a trace however their owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hosts import cache, image, sweep
from hosts.fixtures import traces
from hosts.host import Host, HostDownError, HostError
from hosts.nspawn import NspawnHost
from hosts.testinfra_backend import inspected

TESTS = Path(__file__).parents[1]
OWNER = """\
import sys, time
from hosts.nspawn import NspawnHost
with NspawnHost(name=sys.argv[1], progress=lambda line: None) as host:
    host.boot()
    running = host.popen(["sleep", "1000"])
    print("up", host._guardian.pid, flush=True)
    time.sleep(1000)
"""


def test_is_a_debian_with_nothing_but_what_the_appliance_may_rely_on(bare_host: Host) -> None:
    assert bare_host.check(["systemctl", "is-system-running"]) == "running\n"
    assert 'VERSION_ID="12"' in bare_host.check(["cat", "/etc/os-release"])
    assert bare_host.check(["find", "/usr", "/opt", "/var", "-name", "*python3*", "-type", "f"]) == ""
    for program in ("modprobe", "iptables", "ip6tables", "systemctl", "mount"):
        assert bare_host.run(f"command -v {program}").status == 0, program
    for program in ("python3", "docker", "ps", "ip", "curl", "gcc", "dbus-daemon", "runc"):
        assert bare_host.run(f"command -v {program}").status != 0, program


def test_tells_status_output_and_errors(bare_host: Host) -> None:
    assert bare_host.run("cat; echo err >&2; exit 7", stdin="in") == (7, "in", "err\n")
    assert bare_host.run(["printf", "%s", "a b  $HOME"]).stdout == "a b  $HOME"
    assert bare_host.run("kill -9 $$").status == -9
    with pytest.raises(HostError, match="status 1 of: false"):
        bare_host.check("false")
    with pytest.raises(subprocess.TimeoutExpired):
        bare_host.run("sleep 4321", timeout=0.3)
    assert "4321" not in bare_host.check("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_commands_are_in_a_session_of_the_host(bare_host: Host) -> None:
    groups = bare_host.check(["cat", "/proc/self/cgroup"])
    assert "/.." not in groups
    assert "/user.slice/user-0.slice/session-test.scope" in groups


def test_other_users(fresh_host: Host) -> None:
    fresh_host.check(["useradd", "--create-home", "ann"])
    assert fresh_host.check("id -un; echo $HOME; pwd", user="ann").split()[:2] == ["ann", "/home/ann"]


def test_terminal_is_one_of_the_host(bare_host: Host) -> None:
    with bare_host.terminal("tty; stty size; read word; echo got $word; exit 5", rows=33, columns=99) as terminal:
        terminal.expect("/dev/pts/[0-9]+")
        terminal.expect("33 99")
        terminal.send("hello\n")
        terminal.expect("got hello")
        assert terminal.wait() == 5
    with bare_host.terminal(["sleep", "1000"]) as terminal:
        time.sleep(0.2)
        terminal.send("\x03")
        assert terminal.wait() in (-signal.SIGINT, 130)


def test_files_go_in_and_out(fresh_host: Host, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/run").write_text("#!/bin/sh\necho ran\n")
    (tree / "below/run").chmod(0o750)
    (tree / "link").symlink_to("below/run")
    fresh_host.push(tree, "/opt/tree")
    assert fresh_host.check(["/opt/tree/link"]) == "ran\n"
    fresh_host.pull("/opt/tree", tmp_path / "back")
    assert (tmp_path / "back/below/run").stat().st_mode & 0o7777 == 0o750
    assert os.readlink(tmp_path / "back/link") == "below/run"
    fresh_host.write("/etc/new/with blank", b"\x00\xff", mode=0o600)
    assert fresh_host.read("/etc/new/with blank") == b"\x00\xff"


def test_testinfra_looks_at_it(bare_host: Host) -> None:
    view = inspected(bare_host)
    assert view.service("systemd-journald").is_running
    assert view.file("/etc/os-release").exists
    assert view.system_info.distribution == "debian"


def test_two_at_once_are_apart_and_fresh(progress: cache.Progress) -> None:
    def prepare(root: Path) -> None:
        (root / "usr/local/bin/ours").write_text("#!/bin/sh\necho ours\n")
        (root / "usr/local/bin/ours").chmod(0o755)
        assert (root / "usr/bin/systemctl").exists()

    with NspawnHost(prepare=prepare, progress=progress) as first, NspawnHost(progress=progress) as second:
        first.boot()
        second.boot()
        first.check("systemd-run --unit=only-here sleep 1000")
        first.check("echo changed > /usr/bin/find; mkdir /sys/fs/cgroup/memory/mine; rm /etc/passwd")
        assert first.check(["ours"]) == "ours\n"
        assert second.run(["ours"]).status == 127
        assert second.run("systemctl is-active only-here; find /etc/passwd").stdout == "inactive\n/etc/passwd\n"
        assert second.run("test -e /sys/fs/cgroup/memory/mine").status == 1
        assert first.check(["cat", "/etc/machine-id"]) != second.check(["cat", "/etc/machine-id"])
        first.stop(force=True)
        assert second.check(["systemctl", "is-system-running"]) == "running\n"
        names = [first.name, second.name]
    for name in names:
        assert traces(name) == []
    assert "changed" not in (image.root(image.DEBIAN12) / "usr/bin/find").read_text(errors="replace")[:100]


def test_disk_outlives_shutdown_reboot_and_power_cut(fresh_host: Host) -> None:
    fresh_host.check("echo kept > /var/kept; touch /run/lost")
    for go_down in (fresh_host.reboot, fresh_host.stop, lambda: fresh_host.stop(force=True)):
        go_down()
        if go_down != fresh_host.reboot:
            with pytest.raises(HostError):
                fresh_host.run("true")
            fresh_host.boot()
        assert fresh_host.run("cat /var/kept; test -e /run/lost") == (1, "kept\n", "")
        fresh_host.check("touch /run/lost")


def test_a_guardian_that_fails_says_why(fresh_host: Host) -> None:
    (fresh_host.folder / "host.json").write_text("{")
    fresh_host.stop()
    with pytest.raises(HostDownError, match="JSONDecodeError"):
        fresh_host.boot()


def test_its_last_words_are_those_of_the_journal_then_of_the_console(fresh_host: Host) -> None:
    fresh_host.check("echo the last straw | systemd-cat && journalctl --sync")
    assert "the last straw" in fresh_host.last_words()
    fresh_host.stop(force=True)
    assert "Welcome to" in fresh_host.last_words(lines=1000)
    fresh_host.close()
    assert fresh_host.last_words() == ""


def test_failing_preparation_leaves_nothing(progress: cache.Progress) -> None:
    def prepare(root: Path) -> None:
        raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck"):
        NspawnHost(name="unprepared", prepare=prepare, progress=progress)
    assert traces("unprepared") == []


@contextmanager
def owner(name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that owns a running host, and the id of its guardian."""
    environment = {**os.environ, "PYTHONPATH": os.fspath(TESTS)}
    argv = [sys.executable, "-B", "-c", OWNER, name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        word, _, guardian = process.stdout.readline().partition(" ")
        assert word == "up"
        assert traces(name) != []
        yield process, int(guardian)
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_owner_killed(number: signal.Signals) -> None:
    name = f"orphan-{number.name.lower()}"
    with owner(name) as (process, _):
        process.send_signal(number)
        process.wait(timeout=10)
        until(lambda: not traces(name))
        assert traces(name) == []


def test_owner_and_guardian_killed(progress: cache.Progress) -> None:
    name = "orphan-twice"
    with owner(name) as (process, guardian):
        os.kill(guardian, signal.SIGSTOP)  # or it would be quicker
        os.kill(process.pid, signal.SIGKILL)
        os.kill(guardian, signal.SIGKILL)
        process.wait(timeout=10)
    with NspawnHost(progress=progress):  # whose start sweeps
        until(lambda: not traces(name))
        assert traces(name) == []
    assert name not in sweep.sweep()


def test_kept_host_outlives_its_owner(tmp_path: Path) -> None:
    def hosts(*arguments: str) -> str:
        argv = [sys.executable, "-B", "-m", "hosts", *arguments]
        return subprocess.run(argv, cwd=TESTS, check=True, stdout=subprocess.PIPE, text=True).stdout

    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/given").write_text("this\n")
    name = f"kept-{os.getpid()}"
    try:
        assert hosts("boot", "--keep", "--name", name, "--root-from", os.fspath(tmp_path)) == f"{name}\n"
        assert name in hosts("list")
        assert hosts("exec", name, "cat", "/etc/given") == "this\n"
    finally:
        hosts("stop", name)
    assert traces(name) == []


MAKE_ROOT = 'for word; do case $word in */roots/*.building) mkdir "$word";; esac; done'
IMPORT_BUSYBOX = """\
mkdir -p /tmp/bb/bin && cp /bin/busybox /tmp/bb/bin/ && ln -s busybox /tmp/bb/bin/sh
tar -C /tmp/bb -c . | docker import - busybox
"""


def with_mmdebstrap(folder: Path, script: str) -> dict[str, str]:
    """An environment in which mmdebstrap is `script`, and the cache is empty."""
    program = folder / "bin/mmdebstrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "SKIM_CACHE": os.fspath(folder / "cache")}


def test_root_is_built_once_though_two_want_it(tmp_path: Path) -> None:
    environment = with_mmdebstrap(tmp_path, f"echo built >> {tmp_path}/log; {MAKE_ROOT}; sleep 0.5")
    argv = [sys.executable, "-B", "-m", "hosts", "build", "debian12"]
    both = [subprocess.Popen(argv, cwd=TESTS, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_root_that_fails_to_build_is_an_error_with_the_reason(tmp_path: Path) -> None:
    environment = with_mmdebstrap(tmp_path, f"{MAKE_ROOT}; echo E: no such mirror; exit 25")
    argv = [sys.executable, "-B", "-m", "hosts", "build", "debian12"]
    done = subprocess.run(argv, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "E: no such mirror" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "cache/roots").iterdir() if path.is_dir()] == []


def test_docker_of_debian_works_there(progress: cache.Progress) -> None:
    """Without it, a failing test of ours might be the host's fault."""
    with NspawnHost(image.DEBIAN12_STOCK, progress=progress) as host:
        host.boot()
        assert host.run(["systemctl", "is-active", "docker.socket"]).stdout == "inactive\n"
        host.check(["systemctl", "start", "docker"])
        host.check(IMPORT_BUSYBOX)
        assert "overlay2" in host.check(["docker", "info"])
        assert "eth0" in host.check(["docker", "run", "--rm", "--memory=64m", "busybox", "/bin/busybox", "ip", "address"])
        with host.terminal(["docker", "run", "-it", "--rm", "busybox", "sh"]) as terminal:
            terminal.expect("# ")
            terminal.send("exit 3\n")
            assert terminal.wait() == 3
