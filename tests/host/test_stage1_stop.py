"""`rkt stop`, and signals: of pods that run, start, stand still or are half dead."""

from __future__ import annotations

import time

import pytest

from hosts.host import Host
from running_pods import RKT, entered, held_at, in_background, leftovers, lock_holder, running


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
        stays = "trap : TERM; echo in; while :; do busybox sleep 0.1; done"
        with running(pods_host, "first") as pod, entered(pod, stays) as inside:
            assert inside.stdout is not None
            assert inside.stdout.readline() == b"in\n"
            assert pod.stop().status == 0
            assert pod.finished(30)[0] == 0
            assert inside.wait(20) == -1  # of the hangup at once, and not killed after its five seconds
