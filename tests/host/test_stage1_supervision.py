"""How pods begin and end: exit statuses, order, restarts, stop, enter, and a systemd that is reloaded or re-executed meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hosts.host import Host, HostError
from running_pods import RKT, Pod, in_background, leftovers, run_command, running

SLEEP = "/bin/busybox sleep"


class TestStatuses:
    def test_the_first_failure_is_that_of_the_pod(self, pods_host: Host) -> None:
        three = f"shell --name=a -- {SLEEP} 1000 --- shell --name=b -- /bin/busybox sh -c 'exit 5' --- shell --name=c -- {SLEEP} 1000"
        with running(pods_host, three, ready=False) as pod:
            status, output = pod.finished()
            assert status == 5
            assert 'run: app "b" failed with exit status 5' in output
            assert pod.status()["app-b"] == "5"

    def test_killed_by_a_signal_is_its_number(self, pods_host: Host) -> None:
        with running(pods_host, f"shell -- {SLEEP} 1000") as pod:
            pods_host.check(f"kill -9 {pod.main_pid('shell')}")
            status, output = pod.finished()
            assert status == 9
            assert "was killed by signal 9" in output
            assert pod.status()["app-shell"] == "9"

    def test_all_that_end_well_end_the_pod_well(self, pods_host: Host) -> None:
        with running(pods_host, f"exit -- 0 --- shell -- {SLEEP} 0.5", ready=False) as pod:
            assert pod.finished()[0] == 0
            assert {key: value for key, value in pod.status().items() if key.startswith("app-")} == {"app-exit": "0", "app-shell": "0"}

    def test_stopped_is_no_failure(self, pods_host: Host) -> None:
        with running(pods_host, f"shell -- {SLEEP} 1000") as pod:
            assert pod.stop().status == 0
            assert pod.finished()[0] == 0
            assert pod.status()["app-shell"] == "15"

    def test_an_app_that_its_unit_restarts(self, pods_host: Host) -> None:
        """As often as its unit lets it (StartLimitIntervalSec=0), and those that come after it never notice."""
        with running(pods_host, "again first") as pod:
            other = pod.main_pid("first")
            for _ in range(8):
                before = pod.main_pid("again")
                pods_host.check(f"kill -9 {before}")
                pods_host.wait_until(
                    f"pid=$(systemctl show --value -p MainPID {pod.service('again')}); [ $pid -gt 0 ] && [ $pid != {before} ]", timeout=20
                )
            assert pod.process.poll() is None
            assert pod.status()["state"] == "running"
            assert pod.main_pid("first") == other
            assert pod.stop().status == 0
            status, output = pod.finished()
            assert status == 0
            assert output.count("again: again is up") == 9
            assert output.count("first: first is up") == 1
            assert pod.ends("first", "again")[-2:] == ["first", "again"]

    def test_an_app_that_is_done_is_not_started_again_with_the_one_after_it(self, pods_host: Host) -> None:
        with running(pods_host, "exit --name=prepares -- 0 --- again") as pod:
            before = pod.main_pid("again")
            pods_host.check(f"kill -9 {before}")
            pods_host.wait_until(f"[ $(systemctl show --value -p NRestarts {pod.service('again')}) = 1 ]", timeout=20)
            pods_host.wait_until(f"[ $(systemctl show --value -p MainPID {pod.service('again')}) != {before} ]", timeout=20)
            assert pod.stop().status == 0
            assert pod.finished()[1].count("prepares: leaving") == 1
            assert pod.status()["app-prepares"] == "0"

    def test_an_operator_ends_one_app_and_not_the_next(self, pods_host: Host) -> None:
        with running(pods_host, "first second") as pod:
            after_it = pod.main_pid("second")
            pods_host.check(["systemctl", "stop", pod.service("first")])
            assert pod.main_pid("second") == after_it
            assert pod.process.poll() is None

    def test_status_and_list_while_it_runs(self, pods_host: Host) -> None:
        with running(pods_host, "first") as pod:
            status = pod.status()
            assert status["state"] == "running"
            assert status["pid"] == pod.supervisor()
            assert "started" in status


class TestStop:
    def test_twice_and_after(self, pods_host: Host) -> None:
        with running(pods_host, "first second") as pod:
            assert pod.stop().status == 0
            assert pod.stop().status == 0
            assert pod.finished()[0] == 0
            done = pod.stop()
            assert (done.status, done.stdout) == (0, f'pod "{pod.uuid}" is already stopped\n')
            assert pod.stop("--force").status == 0

    def test_by_force(self, pods_host: Host) -> None:
        with running(pods_host, "stubborn again") as pod:
            start = time.monotonic()
            assert pod.stop("--force").status == 0
            assert pod.finished(20)[0] in (-9, 137)
            assert time.monotonic() - start < 10
            pods_host.wait_until(f"! systemctl is-active -q {pod.service('stubborn')} {pod.service('again')}", timeout=10)
            assert pod.status()["state"] == "exited"

    def test_an_app_that_will_not_has_as_long_as_its_unit_says(self, pods_host: Host) -> None:
        unit = r"'--annotation=skim/unit=[Service]\nTimeoutStopSec=1s\n'".replace(r"\n", "\n")
        with running(pods_host, f"stubborn {unit}") as pod:
            start = time.monotonic()
            assert pod.stop().status == 0
            assert pod.finished(30)[0] == 0
            assert 0.9 < time.monotonic() - start < 20
            assert pod.status()["app-stubborn"] == "9"

    def test_a_supervisor_that_stands_still(self, pods_host: Host) -> None:
        with running(pods_host, "first", command=in_background) as pod:
            pods_host.check(f"kill -STOP {pod.supervisor()}")
            assert pod.stop().status == 0
            assert pod.finished(30)[0] == 0

    def test_a_supervisor_that_stands_still_by_force(self, pods_host: Host) -> None:
        with running(pods_host, "stubborn", command=in_background) as pod:
            pods_host.check(f"kill -STOP {pod.supervisor()}")
            assert pod.stop("--force").status == 0
            assert pod.finished(20)[0] in (-9, 137)

    @pytest.mark.parametrize(
        ("step", "flags"),
        [(step, ()) for step in ("stage1-mounted", "exec", "locked", "units", "pid")]
        + [(step, ("--force",)) for step in ("stage1-mounted", "planned", "scope")],
    )
    def test_a_pod_that_is_just_starting(self, pods_host: Host, step: str, flags: tuple[str, ...]) -> None:
        with held_at(pods_host, step) as pod:
            assert pod.stop(*flags).status == 0
            pods_host.run(f"kill -CONT {lock_holder(pods_host, pod.uuid)}")
            status, output = pod.finished(30)
            assert status in ((0,) if not flags else (-9, 137)), output
            assert pod.status()["state"] == "exited"
            pods_host.check(f"{RKT} rm {pod.uuid}")
            assert leftovers(pods_host, pod.uuid) == ""

    @pytest.mark.parametrize("signal", ["TERM", "INT"])
    @pytest.mark.parametrize("step", ["stage1-mounted", "exec", "locked", "planned", "units", "pid", "scope"])
    def test_a_signal_to_a_pod_that_is_just_starting(self, pods_host: Host, step: str, signal: str) -> None:
        with held_at(pods_host, step) as pod:
            holder = lock_holder(pods_host, pod.uuid)
            pods_host.run(f"kill -{signal} {holder}; kill -CONT {holder}")
            status, output = pod.finished(30)
            # stage0 ends by the signal; stage1 takes the pod down that it has begun to set up, and that is its end.
            assert status in ((143, 130) if step in ("stage1-mounted", "exec") else (0,)), output
            assert "Traceback" not in output
            assert pod.status()["state"] == "exited"
            if status == 0:
                assert pods_host.run(f"ls /run/skim | grep {pod.uuid}").stdout == ""
            pods_host.check(f"{RKT} rm {pod.uuid}")
            assert leftovers(pods_host, pod.uuid) == ""

    def test_a_pod_whose_stage1_is_not_mounted_yet_is_waited_for(self, pods_host: Host) -> None:
        with held_at(pods_host, "moved") as pod:
            goes_on = f"sleep 0.3; kill -CONT {lock_holder(pods_host, pod.uuid)}"
            assert pods_host.check(f"({goes_on}) & {RKT} stop {pod.uuid}").split() == [f'"{pod.uuid}"']
            assert pod.finished(30)[0] == 0
            assert pod.status()["state"] == "exited"

    def test_where_nothing_can_be_noted(self, pods_host: Host) -> None:
        """The file system of the pod's own notes is read-only, or full: the pod ends all the same, in order, and says what is missing."""
        with running(pods_host, "first second") as pod:
            pods_host.check(f"mount -t tmpfs -o ro tmpfs {pod.directory}/stage1/rootfs/rkt")
            done = pod.stop()
            assert (done.status, done.stderr) == (0, "")
            status, output = pod.finished(30)
            assert status == 0
            assert "Traceback" not in output
            for app in ("first", "second"):
                assert f'run: app "{app}": its exit status 0 cannot be noted in ' in output
            assert pod.ends("first", "second") == ["second", "first"]

    def test_a_pod_that_starts_where_nothing_can_be_noted_is_no_silence(self, pods_host: Host) -> None:
        with held_at(pods_host, "locked") as pod:
            pods_host.check(f"mount -t tmpfs -o ro tmpfs {pod.directory}/stage1/rootfs/rkt")
            done = pod.stop()
            assert done.status == 254
            assert "stop: a pod that is starting cannot be told to stop: " in done.stderr
            assert "Traceback" not in done.stderr
            assert pod.stop("--force").status == 0
            assert pod.finished(30)[0] in (-9, 137)

    def test_an_operator_stops_one_app(self, pods_host: Host) -> None:
        with running(pods_host, "first second") as pod:
            pods_host.check(["systemctl", "stop", pod.service("second")])
            time.sleep(0.3)
            assert pod.process.poll() is None
            pods_host.check(["systemctl", "stop", pod.service("first")])
            assert pod.finished(30)[0] == 0

    def test_while_somebody_is_in_it(self, pods_host: Host) -> None:
        with running(pods_host, "first") as pod:
            inside = pods_host.popen(
                f"exec {RKT} enter {pod.uuid} busybox sh -c 'trap : TERM; echo in; while :; do busybox sleep 0.1; done'",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            assert inside.stdout is not None
            assert inside.stdout.readline() == b"in\n"
            start = time.monotonic()
            assert pod.stop().status == 0
            assert pod.finished(30)[0] == 0
            assert time.monotonic() - start < 4
            assert inside.wait(20) != 0
            inside.stdout.close()


@contextmanager
def held_at(host: Host, step: str, arguments: str = "first second") -> Iterator[Pod]:
    """A pod whose start stands still after `step`."""
    with running(host, arguments, ready=False, command=in_background, environment={"SKIM_STOP_AT": step}) as pod:
        holder = host.wait_until(lock_holder_command(pod.uuid), timeout=20).strip()
        host.wait_until(f"grep -q '^State:.T' /proc/{holder}/status", timeout=20)
        yield pod


def lock_holder_command(uuid: str) -> str:
    """Shell text that says who holds the pod's lock."""
    find = f"inode=$(stat -c %i /var/lib/rkt/pods/*/{uuid})"
    return find + '; set -- $(grep "FLOCK .*WRITE .*:$inode " /proc/locks); [ "${5:-0}" -gt 0 ] && echo $5'


def lock_holder(host: Host, uuid: str) -> str:
    return host.run(lock_holder_command(uuid)).stdout.strip() or "0"


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
        with running(pods_host, "first") as pod:
            inside = pods_host.popen(
                f"exec {RKT} enter {pod.uuid} busybox sh -c 'busybox cat /proc/self/cgroup; echo; busybox sleep 1000'",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            assert inside.stdout is not None
            groups = "".join(iter(lambda: inside.stdout.readline().decode().strip(), ""))  # type: ignore[union-attr]
            assert f"system-rkt-{pod.uuid.replace('-', '')}.slice/enter-" in groups
            assert pod.stop().status == 0
            assert pod.finished()[0] == 0
            assert inside.wait(20) != 0
            inside.stdout.close()
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


@contextmanager
def shared_pod(host: Host) -> Iterator[str]:
    """The UUID of one pod of the app `shell` for all tests that only look."""
    found = [pod for pod in json.loads(host.check([RKT, "list", "--format=json"])) or [] if pod["state"] == "running"]
    if not found:
        host.check(f"({run_command(f'shell -- {SLEEP} 1000').replace('exec ', '')} </dev/null >/dev/null 2>&1 &)")
        host.wait_until(f"[ -s /tmp/uuid ] && {RKT} status --wait-ready=20s $(cat /tmp/uuid)", timeout=30)
    yield found[0]["name"] if found else host.check("cat /tmp/uuid").strip()


class TestSystemd:
    @pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
    @pytest.mark.parametrize("step", ["units", "pid", "scope", "ready"])
    def test_at_every_step_of_the_start(self, pods_host: Host, verb: str, step: str) -> None:
        with held_at(pods_host, step) as pod:
            pods_host.check(["systemctl", verb])
            pods_host.check(f"kill -CONT {lock_holder(pods_host, pod.uuid)}")
            pod.wait_ready()
            assert pod.status()["state"] == "running"
            assert pod.stop().status == 0
            assert pod.finished()[0] == 0

    @pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
    def test_again_and_again_while_pods_run_and_end(self, pods_host: Host, verb: str) -> None:
        with running(pods_host, "first again exit -- 0") as pod:
            for round_ in range(4):
                pods_host.check(["systemctl", verb])
                if round_ == 1:
                    pods_host.check(f"kill -9 {pod.main_pid('again')}")
            assert pod.status()["state"] == "running"
            assert pods_host.run(f"{RKT} stop {pod.uuid} & systemctl {verb}; wait $!").status == 0
            assert pod.finished()[0] == 0
            status = pod.status()
            assert (status["app-exit"], status["app-first"]) == ("0", "0")
            pods_host.check(f"systemctl {verb}; {RKT} rm {pod.uuid}")
            assert leftovers(pods_host, pod.uuid) == ""

    def test_an_app_that_fails_while_systemd_is_busy_with_itself(self, pods_host: Host) -> None:
        with running(pods_host, f"shell --name=fails -- /bin/busybox sh -c '{SLEEP} 1; exit 8' --- first") as pod:
            for _ in range(6):
                pods_host.run("systemctl daemon-reexec")
                time.sleep(0.2)
            assert pod.finished()[0] == 8
            assert pod.status()["app-fails"] == "8"


class TestSize:
    def test_a_hundred_apps(self, pods_host: Host) -> None:
        apps = " ".join(f"first --name=app{number} --annotation=skim/after=" for number in range(100))
        start = time.monotonic()
        with running(pods_host, apps, ready=False, stdout=subprocess.DEVNULL) as pod:
            pod.wait_ready(120)
            up = time.monotonic()
            assert int(pods_host.check(f"ls /proc/{pod.supervisor()}/fd | wc -l")) < 500
            assert pod.stop().status == 0
            assert pod.finished(90)[0] == 0
            print(f"up in {up - start:.1f} s, down in {time.monotonic() - up:.1f} s")
            assert len([key for key in pod.status() if key.startswith("app-")]) == 100
            pods_host.check(f"{RKT} rm {pod.uuid}", timeout=120)
            assert leftovers(pods_host, pod.uuid) == ""

    def test_twenty_pods_at_once(self, pods_host: Host) -> None:
        one = f"{RKT} run --uuid-file-save=/tmp/many.$i example.com/first example.com/second"
        starts = f"for i in $(seq 20); do {one} >/dev/null 2>&1 </dev/null & done"
        pods_host.check(f"rm -f /tmp/many.*; ({starts})")
        pods_host.wait_until("[ $(cat /tmp/many.* | wc -c) = 720 ]", timeout=60)
        uuids = [pods_host.check(f"cat /tmp/many.{number}") for number in range(1, 21)]
        for uuid in uuids:
            pods_host.check(f"{RKT} status --wait-ready=60s {uuid}")
        pods_host.check(f"for i in $(seq 20); do {RKT} stop --uuid-file=/tmp/many.$i >/dev/null & done; wait")
        for uuid in uuids:
            assert "state=exited" in pods_host.check(f"{RKT} status --wait=60s {uuid}")
        pods_host.check(f"{RKT} gc --grace-period=0s")
        for uuid in uuids:
            with pytest.raises(HostError):
                pods_host.check(f"{RKT} status {uuid}")
            assert leftovers(pods_host, uuid) == ""

    @pytest.mark.parametrize("script", [f"exec {SLEEP} 1000", f"echo words; exec >&- 2>&-; exec {SLEEP} 1000"])
    def test_an_idle_pod_costs_nothing(self, pods_host: Host, script: str) -> None:
        """Nor one whose app has closed its output for good."""
        with running(pods_host, f"shell -- /bin/busybox sh -c '{script}'") as pod:
            time.sleep(0.5)
            look = f"cat /proc/{pod.supervisor()}/stat | cut -d' ' -f14,15; grep ctxt /proc/{pod.supervisor()}/status"
            before = pods_host.check(look)
            time.sleep(3)
            assert pods_host.check(look) == before
            memory = int(pods_host.check(f"grep ^Pss: /proc/{pod.supervisor()}/smaps_rollup").split()[1]) * 1024
            print(f"supervisor: {memory / 1e6:.1f} MB")
            assert memory < 20_000_000
