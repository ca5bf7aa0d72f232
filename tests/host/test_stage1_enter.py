"""`rkt enter`: the app's environment, programs, slice, terminal and signals."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hosts.host import Host
from running_pods import RKT, SLEEP, entered, held_at, lock_holder, run_command, running


@contextmanager
def shared_pod(host: Host) -> Iterator[str]:
    """The UUID of one pod of the app `shell` for all tests that only look."""
    found = [pod for pod in json.loads(host.check([RKT, "list", "--format=json"])) or [] if pod["state"] == "running"]
    if not found:
        host.check(f"({run_command(f'shell -- {SLEEP} 1000').replace('exec ', '')} </dev/null >/dev/null 2>&1 &)")
        host.wait_until(f"[ -s /tmp/uuid ] && {RKT} status --wait-ready=20s $(cat /tmp/uuid)", timeout=30)
    yield found[0]["name"] if found else host.check("cat /tmp/uuid").strip()


class TestEnter:
    def test_is_the_app(self, pods_host: Host) -> None:
        flags = "--user=4242 --group=4343 --supplementary-gids=7,77 --working-dir=/bin --environment=WORD=with\\ blank"
        with running(pods_host, f"shell {flags} -- {SLEEP} 1000") as pod:
            ask = "busybox id -u; busybox id -g; busybox id -G; pwd; echo $WORD; echo $AC_APP_NAME $HOME; echo $TERM"
            done = pods_host.run([RKT, "enter", pod.uuid, "busybox", "sh", "-c", ask], environment={"TERM": "foo"})
            assert done.stderr == ""
            assert done.stdout.splitlines() == [
                "4242",
                "4343",
                "4343 7 77",
                f"/run/skim/{pod.uuid}/shell/bin",
                "with blank",
                "shell /",
                "foo",
            ]

    def test_is_in_the_pods_slice_and_gone_with_it(self, pods_host: Host) -> None:
        with running(pods_host, "first") as pod, entered(pod, "busybox cat /proc/self/cgroup; echo; busybox sleep 1000") as inside:
            assert inside.stdout is not None
            groups = "".join(iter(lambda: inside.stdout.readline().decode().strip(), ""))  # type: ignore[union-attr]
            assert f"system-rkt-{pod.uuid.replace('-', '')}.slice/enter-" in groups
            assert pod.stop().status == 0
            assert pod.finished()[0] == 0
            assert inside.wait(20) != 0
            pods_host.wait_until(f"! systemctl list-units --all --plain --no-legend | grep enter-.*{pod.uuid}", timeout=10)
            assert pods_host.run(f"find /sys/fs/cgroup -name 'enter-*{pod.uuid}*'").stdout == ""

    def test_an_app_is_a_name_and_no_path(self, pods_host: Host) -> None:
        with running(pods_host, "first") as pod:
            for name in ("../first", "../../../../first", "/first", ""):
                done = pods_host.run([RKT, "enter", f"--app={name}", pod.uuid, "busybox", "echo", "inside"])
                assert (done.status != 0, done.stdout) == (name != "", "" if name else "inside\n"), name
                assert "Traceback" not in done.stderr
            call = f"cd {pod.directory} && stage1/rootfs/skim/enter --pid=$(cat pid) --appname=../first -- busybox echo inside"
            done = pods_host.run(call)
            assert (done.status, done.stdout) == (254, "")
            assert "the pod has no app '../first'" in done.stderr

    @pytest.mark.parametrize(
        ("command", "status", "output"),
        [
            (["busybox", "true"], 0, ""),
            (["busybox", "sh", "-c", "exit 42"], 42, ""),
            (["busybox", "sh", "-c", "kill -9 $$"], -9, ""),
            (["/app", "/bin/busybox", "echo", "an app's script"], 0, "an app's script\n"),
            (["./app", "/bin/busybox", "echo", "found from its directory"], 0, "found from its directory\n"),
            (["busybox", "readlink", "/proc/self/exe"], 0, "R/shell/bin/busybox\n"),
            (["/usr/bin/env", "printf", "%s", "a program of the host"], 0, "a program of the host"),
        ],
    )
    def test_commands(self, pods_host: Host, command: list[str], status: int, output: str) -> None:
        with shared_pod(pods_host) as uuid:
            done = pods_host.run([RKT, "enter", uuid, *command])
            assert (done.status, done.stdout.replace(f"/run/skim/{uuid}/", "R/")) == (status, output)

    def test_a_program_that_is_nowhere(self, pods_host: Host) -> None:
        with shared_pod(pods_host) as uuid:
            done = pods_host.run([RKT, "enter", uuid, "no-such-program"])
            assert done.status == 127
            assert done.stderr == "enter: no-such-program: not found, neither in image example.com/shell nor on the host\n"

    def test_signals_are_as_a_program_expects_them(self, pods_host: Host) -> None:
        with shared_pod(pods_host) as uuid:
            ignored = pods_host.check([RKT, "enter", uuid, "busybox", "grep", "SigIgn", "/proc/self/status"])
            of_the_c_library = 0b11 << 31  # signals 32 and 33: it hides them from programs, which can neither ask for them nor set them
            assert int(ignored.split()[1], 16) & ~of_the_c_library == 0

    def test_a_terminal(self, pods_host: Host) -> None:
        with shared_pod(pods_host) as uuid, pods_host.terminal([RKT, "enter", uuid, "busybox", "sh"], rows=20, columns=70) as terminal:
            terminal.expect("[#$] ", timeout=30)
            terminal.send("busybox stty size; exit 11\n")
            terminal.expect("20 70")
            assert terminal.wait() == 11

    def test_input_and_output(self, pods_host: Host) -> None:
        with shared_pod(pods_host) as uuid:
            data = "x" * 500_000
            assert pods_host.run([RKT, "enter", uuid, "busybox", "cat"], stdin=data).stdout == data

    def test_while_the_pod_starts(self, pods_host: Host) -> None:
        with held_at(pods_host, "pid") as pod:
            inside = pods_host.popen(
                f"exec {RKT} enter --app=first {pod.uuid} busybox echo in", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            time.sleep(0.5)
            assert inside.poll() is None
            pods_host.check(f"kill -CONT {lock_holder(pods_host, pod.uuid)}")
            assert inside.communicate(timeout=30)[0] == b"in\n"
