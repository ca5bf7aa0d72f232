"""docker.service: what an operator does with it"""

from __future__ import annotations

import re
import time

import pytest

from hosts.host import Host
from stock.marks import differs, only_ours
from stock.programs import drop_in, main_pid, property_of, stop_docker, wait_for_docker

SUPERVISOR = "its main process is the supervisor of the pod, which passes signals on; /run/docker.pid has dockerd's"


def test_start_returns_with_dockerd_answering_each_of_eight_times(docker: Host) -> None:
    for _ in range(8):
        stop_docker(docker)
        docker.check("systemctl start docker.service && docker info >/dev/null")


def test_restart_returns_with_dockerd_answering(docker: Host) -> None:
    for _ in range(3):
        docker.check("systemctl reset-failed docker.service; systemctl restart docker.service && docker info >/dev/null")


def test_stop_leaves_no_daemon_and_no_container(docker: Host) -> None:
    docker.check("docker run -d --name sleeper busybox /bin/busybox sleep 1000")
    stop_docker(docker)
    assert docker.run("pgrep -x dockerd").status == 1
    assert docker.run("pgrep -f '[b]usybox sleep 1000'").status == 1
    assert docker.run("systemctl is-active docker.service").stdout.strip() == "inactive"
    docker.check("systemctl start docker.service")
    assert docker.check("docker inspect -f '{{.State.Status}}' sleeper").strip() == "exited"


def test_the_first_use_of_the_socket_starts_it(docker: Host) -> None:
    stop_docker(docker)
    docker.check("systemctl start docker.socket")
    assert docker.run("systemctl is-active docker.service").stdout.strip() == "inactive"
    docker.check("docker info >/dev/null")
    assert docker.check("systemctl is-active docker.service").strip() == "active"


def test_reload_makes_dockerd_read_its_configuration_again(docker: Host) -> None:
    before = docker.check("cat /run/docker.pid")
    docker.write("/etc/docker/daemon.json", '{"debug": true}')
    docker.check("systemctl reload docker.service")
    docker.wait_until("docker info -f '{{.Debug}}' | grep true", timeout=10)
    assert docker.check("cat /run/docker.pid") == before


def test_a_reload_with_a_broken_configuration_keeps_it_running(docker: Host) -> None:
    docker.write("/etc/docker/daemon.json", "{broken")
    docker.run("systemctl reload docker.service")
    docker.wait_until("journalctl --sync; journalctl -u docker.service -n 20 -o cat | grep -i 'invalid character'", timeout=10)
    docker.check("docker info >/dev/null")


def test_enable_and_disable(docker: Host) -> None:
    units = "docker.service docker.socket"
    assert docker.check(f"systemctl disable {units} 2>/dev/null; systemctl is-enabled {units}; true").split() == ["disabled"] * 2
    assert docker.check(f"systemctl enable {units} 2>/dev/null; systemctl is-enabled {units}").split() == ["enabled"] * 2
    assert docker.check(
        "ls /etc/systemd/system/multi-user.target.wants/docker.service /etc/systemd/system/sockets.target.wants/docker.socket"
    )


def test_mask_keeps_it_from_starting_and_unmask_gives_it_back(docker: Host) -> None:
    docker.check("systemctl mask --now docker.service docker.socket 2>/dev/null")
    try:
        assert docker.run("systemctl is-enabled docker.service").stdout.strip() == "masked"
        refused = docker.run("systemctl start docker.service")
        assert refused.status != 0
        assert "is masked" in refused.stderr
    finally:
        docker.check("systemctl unmask docker.service docker.socket 2>/dev/null")
    assert docker.check("systemctl is-enabled docker.service").strip() == "enabled"
    docker.check("systemctl start docker.service && docker info >/dev/null")


def test_a_copy_of_the_administrators_goes_before_the_unit(docker: Host) -> None:
    """What `systemctl edit --full` makes."""
    docker.check("cp $(systemctl show --value -p FragmentPath docker.service) /etc/systemd/system/docker.service")
    docker.check("sed -i 's/^Description=.*/Description=mine/' /etc/systemd/system/docker.service && systemctl daemon-reload")
    try:
        docker.check("systemctl reset-failed docker.service; systemctl restart docker.service && docker info >/dev/null")
        assert property_of(docker, "docker.service", "Description") == "mine"
    finally:
        docker.check("rm /etc/systemd/system/docker.service && systemctl daemon-reload")
        stop_docker(docker)


def test_what_is_ordered_after_it_finds_it_up(docker: Host) -> None:
    stop_docker(docker)
    unit = "[Unit]\nAfter=docker.service\nRequires=docker.service\n"
    unit += "[Service]\nType=oneshot\nExecStart=docker run --rm busybox /bin/busybox true\n"
    docker.write("/run/systemd/system/user-of-docker.service", unit)
    docker.check("systemctl daemon-reload && systemctl start user-of-docker.service")


def test_main_pid_is_a_process_of_its_own_service(docker: Host) -> None:
    pid = main_pid(docker)
    assert pid > 1
    assert docker.check(f"cat /proc/{pid}/status")


@differs("ours", SUPERVISOR)
def test_main_pid_is_that_of_dockerd(docker: Host) -> None:
    assert main_pid(docker) == int(docker.check("cat /run/docker.pid"))


def test_sighup_to_the_main_process_reloads(docker: Host) -> None:
    docker.write("/etc/docker/daemon.json", '{"debug": true}')
    docker.check(f"kill -HUP {main_pid(docker)}")
    docker.wait_until("docker info -f '{{.Debug}}' | grep true", timeout=10)


def test_sigusr1_to_the_main_process_writes_goroutines_down(docker: Host) -> None:
    docker.check("rm -f /run/docker/goroutine-stacks-*")
    docker.check(f"kill -USR1 {main_pid(docker)}")
    docker.wait_until("ls /run/docker/goroutine-stacks-*", timeout=10)
    docker.check("docker info >/dev/null")


def test_sigterm_to_the_main_process_stops_it_and_is_no_failure(docker: Host) -> None:
    docker.check(f"systemctl stop docker.socket 2>/dev/null & kill -TERM {main_pid(docker)}")
    docker.wait_until("systemctl show --value -p ActiveState docker.service | grep inactive", timeout=20)
    assert property_of(docker, "docker.service", "Result") == "success"
    assert property_of(docker, "docker.service", "ExecMainStatus") == "0"


def test_status_says_that_it_runs(docker: Host) -> None:
    text = docker.check("systemctl status docker.service --no-pager")
    assert "Docker Application Container Engine" in text
    assert "active (running)" in text
    assert re.search(r"Main PID: \d+", text)
    assert "dockerd" in text


def test_a_wrong_argument_of_dockerd_is_told_with_docker_running(docker: Host) -> None:
    done = docker.run("dockerd --nonsense")
    assert done.status == 1
    assert "unknown flag: --nonsense" in done.stderr


@only_ours("there is one engine, and no pod")
def test_status_says_which_engine_and_pod(ours: Host) -> None:
    wait_for_docker(ours)
    version = ours.check("docker version -f '{{.Server.Version}}'").strip()
    uuid = ours.check("cat /var/lib/skim/pod-uuid").strip()
    assert re.search(rf"Status: .*docker {re.escape(version)}.*; pod {uuid}", ours.check("systemctl status docker.service --no-pager"))


def test_the_journal_has_dockerds_lines_under_its_name(docker: Host) -> None:
    docker.check("journalctl --sync")
    lines = docker.check("journalctl -u docker -o cat --no-pager")
    assert "API listen on" in lines
    assert "containerd successfully booted" not in lines
    lines = docker.check("journalctl -u containerd -o cat --no-pager")
    assert "containerd successfully booted" in lines
    assert "API listen on" not in lines


def test_what_the_journal_says_of_dockerds_lines(docker: Host) -> None:
    docker.check("journalctl --sync")
    shown = docker.check(
        "journalctl -u docker -o export --no-pager -g 'API listen on' -n 1 | grep -a -E '^(PRIORITY|SYSLOG_IDENTIFIER|_COMM)='"
    )
    assert sorted(shown.split()) == ["PRIORITY=6", "SYSLOG_IDENTIFIER=dockerd", "_COMM=dockerd"]


BROKEN = {
    "broken daemon.json": ("/etc/docker/daemon.json", "{broken", "unable to configure the Docker daemon with file /etc/docker/daemon.json"),
    "wrong flag": (
        "/etc/systemd/system/docker.service.d/t.conf",
        "[Service]\nEnvironment=DOCKER_OPTS=--nonsense\n",
        "unknown flag: --nonsense",
    ),
    "port taken": (
        "/etc/systemd/system/docker.service.d/t.conf",
        "[Service]\nEnvironment='DOCKER_OPTS=-H tcp://127.0.0.1:2799'\n",
        "address already in use",
    ),
    "no space": ("/etc/docker/daemon.json", '{"data-root": "/run/full/data"}', "no space left on device"),
    "no such storage driver": ("/etc/docker/daemon.json", '{"storage-driver": "nonsense"}', "nonsense"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_failure_of_dockerd_is_told_at_once_and_in_its_words(docker: Host, what: str) -> None:
    path, content, words = BROKEN[what]
    stop_docker(docker)
    since = docker.check("date +%s.%N").strip()
    docker.write(path, content)
    docker.check(["sh", "-c", f"{{ {AROUND.get(what, 'true')}; }} >/dev/null 2>&1"])
    try:
        began = time.monotonic()
        started = docker.run("systemctl daemon-reload && systemctl start docker.service", timeout=60)
        assert time.monotonic() - began < 20
        assert started.status != 0
        assert "journalctl -xeu docker.service" in started.stderr
        docker.wait_until(
            ["sh", "-c", f"journalctl --sync; journalctl -u docker --since @{since} -o cat --no-pager | grep -F -- '{words}'"]
        )
    finally:
        stop_docker(docker)
        docker.check(f"rm -f {path}; kill $(cat /run/taker 2>/dev/null) 2>/dev/null; umount /run/full 2>/dev/null; systemctl daemon-reload")
    docker.check("systemctl start docker.service && docker info >/dev/null")


TAKE_PORT = """\
/bin/busybox nc -ll -p 2799 -e /bin/cat & echo $! > /run/taker
until grep -q ':0AEF 0*:0000 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done"""
FULL = "mkdir -p /run/full && mount -t tmpfs -o size=64k tmpfs /run/full && dd if=/dev/zero of=/run/full/x bs=4k; mkdir /run/full/data"
AROUND = {"port taken": TAKE_PORT, "no space": FULL}


def test_a_missing_group_is_told(docker: Host) -> None:
    stop_docker(docker)
    docker.check("cp -a /etc/group /etc/gshadow /root/ && groupdel docker")
    try:
        assert docker.run("systemctl start docker.service").status != 0
        docker.wait_until("journalctl --sync; journalctl -u docker.socket -n 20 -o cat --no-pager | grep -i 'group'")
    finally:
        docker.check("cp -a /root/group /root/gshadow /etc/; systemctl reset-failed docker.socket docker.service")
    docker.check("systemctl start docker.service && docker info >/dev/null")


def test_starts_that_fail_are_limited(docker: Host) -> None:
    stop_docker(docker)
    docker.write("/etc/docker/daemon.json", "{broken")
    try:
        docker.run("systemctl start docker.service", timeout=60)
        docker.wait_until("systemctl show --value -p Result docker.service | grep -e start-limit-hit -e exit-code", timeout=40)
        docker.wait_until("systemctl show --value -p ActiveState docker.service | grep failed", timeout=40)
        refused = docker.run("systemctl start docker.service; systemctl show -p Result docker.service", timeout=60)
        docker.wait_until(
            "journalctl --sync; journalctl -u docker.service -n 40 -o cat --no-pager | grep 'repeated too quickly'", timeout=40
        )
        assert "Result=" in refused.stdout
    finally:
        docker.check("rm /etc/docker/daemon.json; systemctl reset-failed docker.service docker.socket")
    docker.check("systemctl start docker.service && docker info >/dev/null")


def test_a_drop_in_takes_effect_with_daemon_reload(docker: Host) -> None:
    drop_in(docker, "[Service]\nEnvironment=DOCKER_OPTS=--label=from=drop-in\n")
    docker.check("systemctl restart docker.service")
    assert docker.check("docker info -f '{{.Labels}}'").strip() == "[from=drop-in]"
