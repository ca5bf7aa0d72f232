"""Reloads and restarts of what else runs on the host, with containers running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import appliance
from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.conftest import PRISTINE, take_up

START_WEB = "docker run -d --name web -p 8080:80 busybox /bin/busybox httpd -f -h /bin"
ASK_WEB = "timeout 5 /bin/busybox wget -qO /dev/null http://127.0.0.1:8080/sh"
GATEWAY = "$(docker inspect -f '{{.NetworkSettings.Gateway}}' web)"
ASK_BY_RULES = f"docker run --rm busybox /bin/busybox timeout 5 /bin/busybox wget -qO /dev/null http://{GATEWAY}:8080/sh"
STATE = "docker inspect -f '{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}' web; systemctl show --value -p MainPID docker"


@pytest.fixture
def web(docker: Host) -> Host:
    docker.check(START_WEB)
    docker.wait_until(ASK_WEB, timeout=10)
    return docker


def assert_nothing_happened(host: Host, state: str) -> None:
    assert host.check(STATE) == state
    host.check(ASK_WEB)
    host.check("docker exec web /bin/busybox true && docker run --rm busybox /bin/busybox true")


@pytest.mark.parametrize(
    "command",
    [
        "systemctl daemon-reload",
        "systemctl daemon-reexec",
        "systemctl restart systemd-logind",
        "systemctl restart systemd-journald",
        "systemctl restart dbus",
    ],
)
def test_containers_and_docker_never_notice(web: Host, command: str) -> None:
    state = web.check(STATE)
    for _ in range(3):
        web.check(command)
    assert_nothing_happened(web, state)
    assert "docker.service" in web.check("systemctl list-units --state=active --plain --no-legend docker.service")


def test_logs_are_still_followed_after_a_daemon_reexec(docker: Host) -> None:
    counting = "n=0; while :; do n=$((n + 1)); echo line $n; /bin/busybox sleep 0.1; done"
    docker.check(["docker", "run", "-d", "--name", "counter", "busybox", "/bin/sh", "-c", counting])
    docker.check("docker logs -f counter >/tmp/followed 2>&1 & echo $! >/tmp/follower")
    docker.wait_until("grep -q 'line 3$' /tmp/followed")
    docker.check("systemctl daemon-reexec && systemctl daemon-reload && docker logs --tail 1 counter >/tmp/last")
    docker.wait_until('grep -qx "line $(($(cut -d" " -f2 /tmp/last) + 5))" /tmp/followed')
    docker.check("kill $(cat /tmp/follower)")


def test_flushing_the_ruleset_takes_dockers_rules_until_docker_restarts(web: Host) -> None:
    web.check("iptables -t nat -S DOCKER && " + ASK_BY_RULES)
    web.check("systemctl restart nftables")  # whose /etc/nftables.conf begins with `flush ruleset`
    assert web.run("iptables -t nat -S DOCKER").status != 0
    web.check("systemctl restart docker && docker start web")
    web.check("iptables -t nat -S DOCKER && " + ASK_BY_RULES)
    web.check("systemctl stop nftables; systemctl restart docker")


@pytest.fixture(scope="module")
def firewalld(side: str, progress: cache.Progress) -> Iterator[Host]:
    """A host with firewalld, up before Docker."""
    flavour = image.FLAVOURS["debian12-firewalld" + ("-stock" if side == "stock" else "")]
    with NspawnHost(flavour, prepare=appliance.install if side == "ours" else None, progress=progress) as host:
        host.boot()
        host.check("systemctl enable --now firewalld")
        take_up(host, side)
        host.check(PRISTINE)
        yield host


def test_docker_puts_its_rules_back_when_firewalld_reloads(firewalld: Host) -> None:
    firewalld.check(START_WEB)
    state = firewalld.check(STATE)
    assert "docker0" in firewalld.check("firewall-cmd --zone=docker --list-interfaces")
    firewalld.check("firewall-cmd --reload")
    firewalld.wait_until("iptables -t nat -S DOCKER | grep 8080 && " + ASK_BY_RULES)
    assert_nothing_happened(firewalld, state)


def test_docker_works_after_firewalld_restarts(firewalld: Host) -> None:
    firewalld.check("docker rm -f web; " + START_WEB)
    firewalld.check("systemctl restart firewalld")
    firewalld.wait_until("iptables -t nat -S DOCKER | grep 8080 && " + ASK_BY_RULES)
    assert "docker0" in firewalld.check("firewall-cmd --zone=docker --list-interfaces")
