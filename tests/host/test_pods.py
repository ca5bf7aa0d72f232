"""Pods of small images under a real systemd, by the installed programs alone: the host has no Python."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hosts.host import Host
from running_pods import ends
from small_images import SERVE, write_image

RUN = "/opt/skim/bin/rkt run --insecure-options=image --uuid-file-save=/tmp/uuid"
RKT = "/opt/skim/bin/rkt"


@pytest.fixture(scope="module")
def images(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Host:
    host = docker_host
    folder = tmp_path_factory.mktemp("images")
    for name in ("first", "second"):
        host.push(write_image(folder / f"{name}.aci", SERVE.format(name=name), name=f"example.com/{name}"), f"/tmp/{name}.aci")
    host.push(write_image(folder / "exit.aci", 'echo leaving; exit "$1"\n', name="example.com/exit"), "/tmp/exit.aci")
    script = "/bin/busybox id; echo home $HOME; /bin/busybox cat $HOME/file; /bin/busybox sleep 1000\n"
    user = write_image(
        folder / "user.aci",
        script,
        name="example.com/user",
        files={"/etc/passwd": "web:x:4242:99::/home/web:/bin/sh\n", "/etc/group": "www:x:4343:\n", "/home/web/file": "reached its file\n"},
        user="web",
        group="www",
        supplementaryGIDs=[7, 77],
    )
    host.push(user, "/tmp/user.aci")
    return host


@contextmanager
def running(host: Host, arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`rkt run` in the background, ready; removed at the end whatever the test did with it."""
    host.check("rm -f /tmp/uuid")
    process = host.popen(f"exec {RUN} {arguments}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        host.wait_until("[ -s /tmp/uuid ]", timeout=20)
        uuid = host.check("cat /tmp/uuid").strip()
        yield process, uuid
    finally:
        uuid = host.check("cat /tmp/uuid").strip()
        host.run(f"{RKT} stop --force {uuid}")
        process.wait(30)
        host.check(f"{RKT} rm {uuid}")


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.decode()


def assert_nothing_left(host: Host, uuid: str) -> None:
    # systemd learns of mounts that are gone a moment later.
    host.wait_until(f"! systemctl list-units --all --plain --no-legend | grep -e {uuid.replace('-', '.*')}", timeout=5)
    found = host.run(
        f"ls /run/systemd/system /run/systemd/transient /run/skim | grep {uuid}; grep {uuid} /proc/self/mountinfo;"
        f"find /sys/fs/cgroup -name '*{uuid.replace('-', '')}*' -o -name '*{uuid}*'; ls -d /var/lib/rkt/pods/*/{uuid};"
        f"systemctl list-units --all --plain --no-legend | grep -e {uuid} -e {uuid.replace('-', '')}"
    )
    assert found.stdout == ""


class TestTwoApps:
    def test_second_starts_after_the_first_is_up_and_ends_before_it(self, images: Host) -> None:
        with running(images, "/tmp/first.aci /tmp/second.aci") as (process, uuid):
            images.check(f"{RKT} status --wait-ready=20s {uuid}")
            times = [
                int(images.check(["systemctl", "show", "--value", "-p", f"{what}TimestampMonotonic", f"{app}-rkt-{uuid}.service"]))
                for app, what in (("first", "ActiveEnter"), ("second", "InactiveExit"))
            ]
            assert 0 < times[0] <= times[1]
            assert images.check(f"{RKT} stop {uuid}") == f'"{uuid}"\n'
            status, output = finished(process)
            assert status == 0
            lines = [line for line in output.splitlines() if not line.endswith("Terminated")]
            assert lines[:2] == ["first: first is up", "second: second is up"]
            assert sorted(lines[2:]) == ["first: first ends", "second: second ends"]
            assert ends(images, uuid, "first", "second") == ["second", "first"]
            assert "app-first=0" in images.check(f"{RKT} status {uuid}")

    def test_output_is_in_the_journal_under_the_apps_names(self, images: Host) -> None:
        with running(images, "/tmp/first.aci /tmp/second.aci") as (_, uuid):
            images.check(f"{RKT} status --wait-ready=20s {uuid}; journalctl --sync")
            scope = f"_SYSTEMD_UNIT=rkt-{uuid}.scope"
            for app in ("first", "second"):
                lines = f"journalctl --sync; journalctl -q -o cat --no-pager {scope} SYSLOG_IDENTIFIER={app}"
                images.wait_until(f"{lines} | grep -qx '{app} is up'", timeout=10)

    def test_gc_leaves_nothing(self, images: Host) -> None:
        with running(images, "/tmp/first.aci /tmp/second.aci") as (process, uuid):
            images.check(f"{RKT} stop {uuid}")
            process.wait(30)
            images.check(f"{RKT} gc --grace-period=0s; {RKT} gc --grace-period=0s")
            assert_nothing_left(images, uuid)
            images.check(f"rm /tmp/uuid; echo {uuid} > /tmp/uuid; mkdir -p /var/lib/rkt/pods/exited-garbage/{uuid}")

    def test_an_app_that_is_not_root(self, images: Host) -> None:
        with running(images, "/tmp/first.aci /tmp/user.aci") as (process, uuid):
            images.check(f"{RKT} status --wait-ready=20s {uuid}")
            pid = images.check(["systemctl", "show", "--value", "-p", "MainPID", f"user-rkt-{uuid}.service"]).strip()
            images.wait_until(f"grep -q '^Uid:.4242.4242.4242' /proc/{pid}/status", timeout=10)
            images.check(f"{RKT} stop {uuid}")
            status, output = finished(process)
            assert status == 0
            assert f"user: home /run/skim/{uuid}/user/home/web" in output
            assert "user: uid=4242 gid=4343 groups=7,77" in output.replace("(tty)", "").replace("(lp)", "")
            assert "user: reached its file" in output

    def test_what_fails_first_ends_the_pod_with_its_status(self, images: Host) -> None:
        done = images.run(f"{RUN} /tmp/first.aci /tmp/exit.aci -- 5")
        uuid = images.check("cat /tmp/uuid").strip()
        assert done.status == 5
        assert 'run: app "exit" failed with exit status 5' in done.stderr
        status = images.check(f"{RKT} status {uuid}")
        assert "app-exit=5" in status
        assert "app-first=0" in status
        images.check(f"{RKT} rm {uuid}")
        assert_nothing_left(images, uuid)

    def test_apps_that_end_well_do_not_end_the_others(self, images: Host) -> None:
        with running(images, "/tmp/exit.aci --name=short -- 0 --- /tmp/first.aci") as (process, uuid):
            images.wait_until(f"{RKT} status {uuid} | grep -q running", timeout=10)
            time.sleep(1)
            assert process.poll() is None
            assert "ActiveState=active" in images.check(f"systemctl show first-rkt-{uuid}.service")


class TestOneApp:
    @pytest.mark.parametrize("status", [0, 1, 42, 255])
    def test_exit_status_is_that_of_rkt_run(self, images: Host, status: int) -> None:
        done = images.run(f"{RUN} /tmp/exit.aci -- {status}")
        assert (done.status, done.stdout) == (status, "leaving\n")
        images.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_enter_is_the_app_and_finds_the_images_programs(self, images: Host) -> None:
        with running(images, "/tmp/user.aci") as (_, uuid):
            images.check(f"{RKT} status --wait-ready=20s {uuid}")
            ask = "id -u; id -g; pwd; echo $AC_APP_NAME; cat /proc/self/cgroup; exit 9"
            done = images.run(f"{RKT} enter {uuid} busybox sh -c '{ask}'")
            assert done.status == 9
            lines = done.stdout.splitlines()
            assert lines[:4] == ["4242", "4343", f"/run/skim/{uuid}/user", "user"]
            assert f"system-rkt-{uuid.replace('-', '')}.slice/enter-" in done.stdout

    def test_arguments_of_any_bytes_arrive(self, images: Host, tmp_path: Path) -> None:
        words = ["%n", "$HOME", "${HOME}", "$$", '"', "'", "\\", "a\nb", " ", "", "Ж", "\t", ";", "%%", "\x01", "#"]
        script = 'for word; do /bin/busybox printf "<%s>" "$word"; done; /bin/busybox printf "%s" "$ODD"\n'
        odd = "line\n\"quoted\" $HOME %h `id` \\ 'x' "
        image = write_image(tmp_path / "words.aci", script, environment=[{"name": "ODD", "value": odd}])
        images.push(image, "/tmp/words.aci")
        done = images.run([*RUN.split(), "/tmp/words.aci", "--", *words])
        assert done.stdout == "".join(f"<{word}>" for word in words) + odd
        images.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ("--exec=/no/such", "has no executable '/no/such'"),
            ("--user=nobody-here", "user 'nobody-here' is not in /etc/passwd of image"),
            ("--working-dir=/nowhere", "no directory '/nowhere'"),
        ],
    )
    def test_what_cannot_start_is_one_clear_error_and_nothing_is_left(self, images: Host, arguments: str, said: str) -> None:
        done = images.run(f"{RUN} /tmp/first.aci {arguments}")
        uuid = images.check("cat /tmp/uuid").strip()
        assert done.status == 254
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert images.run(f"ls /run/skim /run/systemd/system | grep {uuid}").stdout == ""
        images.check(f"{RKT} rm {uuid}")

    def test_a_killed_supervisor_takes_the_apps_with_it(self, images: Host) -> None:
        with running(images, "/tmp/first.aci") as (process, uuid):
            images.check(f"{RKT} status --wait-ready=20s {uuid}")
            images.check(f"kill -9 $(cat /var/lib/rkt/pods/run/{uuid}/pid)")
            process.wait(10)
            images.wait_until(f"! systemctl is-active -q first-rkt-{uuid}.service", timeout=20)
            assert "state=exited" in images.check(f"{RKT} status {uuid}")
