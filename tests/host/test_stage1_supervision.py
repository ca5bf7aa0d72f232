"""How pods end, and what a systemd that is reloaded or re-executed meanwhile changes: exit statuses, restarts, many of them, idle ones."""

from __future__ import annotations

import subprocess
import time

import pytest

from hosts.host import Host, HostError
from running_pods import RKT, SLEEP, held_at, leftovers, lock_holder, running


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
