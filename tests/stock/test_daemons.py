"""Daemons that come and go: what becomes of containers, sessions and logs"""

from __future__ import annotations

import subprocess
import time

import pytest

from hosts.host import Host
from stock.programs import COUNTER, containerd_pid, dockerd_pid, drop_in, stop_docker

LIVE_RESTORE = '{"live-restore": true}'
VICTIMS = ("dockerd", "containerd", "both")


def kill(host: Host, victim: str, number: str = "KILL") -> None:
    """And wait until others are there in its place, and Docker answers."""
    victims = ("dockerd", "containerd") if victim == "both" else (victim,)
    before = {name: dockerd_pid(host) if name == "dockerd" else containerd_pid(host) for name in victims}
    host.check(f"kill -{number} {' '.join(map(str, before.values()))}")
    for name, pid in before.items():
        host.wait_until(f"new=$(pgrep -x {name}) && [ $new != {pid} ]", timeout=30)
    host.wait_until("docker run --rm busybox /bin/busybox true", timeout=30)


def state(host: Host, container: str) -> str:
    return host.check(
        ["docker", "inspect", "-f", "{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}", container]
    ).strip()


def numbers(host: Host, container: str) -> list[int]:
    return [int(line) for line in host.check(["docker", "logs", container]).split()]


def with_live_restore(host: Host) -> None:
    host.write("/etc/docker/daemon.json", LIVE_RESTORE)
    host.check("systemctl reload docker.service")
    host.wait_until("docker info -f '{{.LiveRestoreEnabled}}' | grep true", timeout=10)


def start_counter(host: Host, *options: str) -> None:
    host.check(["docker", "run", "-d", "--name", "counter", *options, "busybox", "/bin/sh", "-c", COUNTER])
    host.wait_until("docker logs counter | grep -x 3", timeout=20)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_crash_with_live_restore_stops_no_container_and_loses_no_line(docker: Host, victim: str) -> None:
    with_live_restore(docker)
    start_counter(docker)
    before = state(docker, "counter")
    kill(docker, victim)
    assert state(docker, "counter") == before
    last = numbers(docker, "counter")[-1]
    docker.wait_until(f"docker logs counter | grep -x {last + 5}", timeout=20)
    found = numbers(docker, "counter")
    assert found == list(range(1, found[-1] + 1))
    assert docker.check("docker exec counter /bin/busybox echo in").strip() == "in"
    docker.check("docker stop -t 1 counter && docker start counter && docker rm -f counter")


@pytest.mark.parametrize("what", ["restart", "stop and start"])
def test_a_planned_pause_with_live_restore_stops_no_container(docker: Host, what: str) -> None:
    with_live_restore(docker)
    start_counter(docker)
    before = state(docker, "counter")
    if what == "restart":
        docker.check("systemctl restart docker.service")
    else:
        stop_docker(docker)
        docker.check("systemctl start docker.service")
    assert state(docker, "counter") == before
    docker.wait_until(f"docker logs counter | grep -x {numbers(docker, 'counter')[-1] + 5}", timeout=20)


def test_a_crash_of_containerd_without_live_restore_stops_no_container(docker: Host) -> None:
    start_counter(docker)
    before, dockerd = state(docker, "counter"), dockerd_pid(docker)
    kill(docker, "containerd")
    assert state(docker, "counter") == before
    assert dockerd_pid(docker) == dockerd


POLICIES = {"no": "exited", "on-failure": "running", "always": "running", "unless-stopped": "running"}
# dockerd ends what it finds running after its own crash, and takes that for a stop by hand.
AFTER_CRASH = {**POLICIES, "unless-stopped": "exited", "halted": "exited"}


@pytest.mark.parametrize("victim", ["dockerd", "both"])
def test_after_a_crash_without_live_restore_restart_policies_hold(docker: Host, victim: str) -> None:
    for policy in POLICIES:
        docker.check(["docker", "run", "-d", "--name", policy, "--restart", policy, "busybox", "/bin/busybox", "sleep", "1000"])
    docker.check("docker run -d --name halted --restart unless-stopped busybox /bin/busybox sleep 1000 && docker stop -t 0 halted")
    kill(docker, victim)
    for name, expected in AFTER_CRASH.items():
        docker.wait_until(f"docker inspect -f '{{{{.State.Status}}}}' {name} | grep -x {expected}", timeout=20)


def test_after_stop_and_start_restart_policies_hold(docker: Host) -> None:
    for policy in POLICIES:
        docker.check(
            [
                "docker",
                "run",
                "-d",
                "--name",
                policy,
                "--restart",
                policy,
                "busybox",
                "/bin/sh",
                "-c",
                "trap 'exit 0' TERM; /bin/busybox sleep 1000 & wait",
            ]
        )
    stop_docker(docker)
    docker.check("systemctl start docker.service")
    for name, expected in {**POLICIES, "on-failure": "exited"}.items():
        docker.wait_until(f"docker inspect -f '{{{{.State.Status}}}}' {name} | grep -x {expected}", timeout=20)


def test_logs_that_are_followed_end_with_dockerd_and_go_on_when_asked_again(docker: Host) -> None:
    with_live_restore(docker)
    start_counter(docker)
    with docker.popen("docker logs -f counter >/run/followed 2>&1", stdin=None) as follower:
        docker.wait_until("grep -x 8 /run/followed", timeout=20)
        kill(docker, "dockerd")
        assert follower.wait(timeout=20) is not None
    followed = [int(line) for line in docker.check("grep -x '[0-9]*' /run/followed").split()]
    assert followed == list(range(1, followed[-1] + 1))
    assert numbers(docker, "counter")[-1] >= followed[-1]


def test_a_session_in_a_container_ends_with_dockerd_and_the_container_does_not(docker: Host) -> None:
    with_live_restore(docker)
    start_counter(docker)
    before = state(docker, "counter")
    with docker.terminal("docker exec -it counter /bin/sh") as terminal:
        terminal.expect("# ")
        terminal.send("echo in$((40 + 2))\n")
        terminal.expect("in42")
        kill(docker, "dockerd")
        terminal.wait(timeout=20)
    assert state(docker, "counter") == before
    assert docker.check("docker exec counter /bin/busybox echo again").strip() == "again"


def test_a_reload_leaves_sessions_and_logs_alone(docker: Host) -> None:
    start_counter(docker)
    with docker.terminal("docker exec -it counter /bin/sh") as terminal:
        terminal.expect("# ")
        docker.check("systemctl reload docker.service")
        terminal.send("echo in$((40 + 2)); exit 7\n")
        terminal.expect("in42")
        assert terminal.wait() == 7


def test_a_client_that_waits_is_told_of_the_end(docker: Host) -> None:
    start_counter(docker)
    with docker.popen("docker events >/dev/null", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as waiting:
        stop_docker(docker)
        said = waiting.communicate(timeout=30)[1]
    assert waiting.returncode in (0, 1), said
    docker.check("systemctl start docker.service")


def starve(host: Host, pid: int) -> None:
    """Let a process have hardly more memory than it has: what it asks for next has the kernel kill it."""
    group = host.check(f"grep -E ':memory:|^0::' /proc/{pid}/cgroup | head -n 1").strip().split(":", 2)
    if group[1] == "memory":
        path = f"/sys/fs/cgroup/memory{group[2]}/starved"
        host.check(f"mkdir -p {path} && echo 1000000 > {path}/memory.limit_in_bytes && echo {pid} > {path}/cgroup.procs")
    else:
        host.check(f"echo 1000000 > /sys/fs/cgroup{group[2]}/memory.max")


WORK = """\
docker save busybox | docker load & docker ps -a & docker images & docker info &
for number in 1 2 3 4; do docker run --rm busybox /bin/busybox true & done
wait
"""


# Not both without live-restore: a container with `--restart always` stayed stopped then, on stock as on ours.
@pytest.mark.parametrize(
    ("victim", "live_restore"),
    [*((victim, True) for victim in VICTIMS), ("dockerd", False), ("containerd", False)],
    ids=lambda value: value if isinstance(value, str) else "live-restore" if value else "without",
)
def test_daemons_that_the_kernel_kills_for_their_memory_are_back(docker: Host, victim: str, live_restore: bool) -> None:
    if live_restore:
        with_live_restore(docker)
    start_counter(docker, "--restart", "always")
    before = state(docker, "counter")
    pids = {"dockerd": dockerd_pid(docker), "containerd": containerd_pid(docker)}
    doomed = [pid for name, pid in pids.items() if victim in (name, "both")]
    for pid in doomed:
        starve(docker, pid)
    deadline = time.monotonic() + 60
    while any(docker.run(f"[ -d /proc/{pid} ]").status == 0 for pid in doomed):
        assert time.monotonic() < deadline, "not killed"
        docker.run(WORK, timeout=60)
    docker.wait_until("docker run --rm busybox /bin/busybox true", timeout=60)
    if live_restore or victim == "containerd":
        assert state(docker, "counter") == before
    docker.wait_until("docker inspect -f '{{.State.Status}}' counter | grep -x running", timeout=20)
    lines = len(numbers(docker, "counter"))
    docker.wait_until(f"[ $(docker logs counter | wc -l) -ge {lines + 5} ]", timeout=20)
    docker.check("systemctl restart docker.service")


def test_thirty_crashes_of_dockerd_one_after_another(docker: Host) -> None:
    with_live_restore(docker)
    drop_in(docker, "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n")
    docker.check("systemctl restart docker.service")
    start_counter(docker)
    before = state(docker, "counter")
    for _ in range(30):
        kill(docker, "dockerd")
    assert state(docker, "counter") == before
