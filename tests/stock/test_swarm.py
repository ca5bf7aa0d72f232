"""Where one machine is not enough: a swarm of two hosts.

The hosts are containers on this machine's kernel; services with a virtual IP take one with IP_VS, and are in tests/vm/test_swarm.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import appliance
import swarms
from docker_behaviour import MAKE_BUSYBOX
from hosts import cache, image
from hosts.host import Host
from hosts.network import Network
from hosts.nspawn import NspawnHost
from stock.marks import only_ours
from swarms import NETWORK, Swarm, serve, wait_for_nodes, wait_for_pages, wait_for_tasks

TAKE_UP = {
    "stock": "systemctl enable --now containerd.service docker.socket docker.service",
    "ours": "skim setup && systemctl start docker.service",
}
RUNNING_TASK = "docker ps --quiet --no-trunc --filter label=com.docker.swarm.service.name=web"


class Pair:
    """Two hosts of a network, which are a swarm; sides of the manager and the worker."""

    def __init__(self, stack: ExitStack, progress: cache.Progress, *sides: str) -> None:
        self.network = stack.enter_context(Network())
        hosts = [stack.enter_context(_host(side, name, progress)) for side, name in zip(sides, ("one", "two"), strict=True)]
        addresses = [self.network.boot(host) for host in hosts]
        for side, host in zip(sides, hosts, strict=True):
            host.check(TAKE_UP[side], timeout=300)
            host.check(MAKE_BUSYBOX)
        self.manager, self.worker = hosts
        self.swarm = Swarm(self.manager, self.worker)
        swarms.form(self.swarm, addresses[0])

    def settle(self) -> None:
        """To where a test begins: no services, both hosts in the swarm."""
        self.manager.check("docker service ls --quiet | xargs -r docker service rm")
        # Whoever else changes a node at the same moment, such as one that comes back, makes dockerd refuse: "update out of sequence".
        self.manager.wait_until("docker node ls --quiet | xargs -n1 docker node update --availability=active")
        wait_for_nodes(self.swarm, "Ready", "Ready")
        for host in (self.manager, self.worker):
            host.wait_until('[ -z "$(docker ps --quiet --filter label=com.docker.swarm.task)" ]')


def _host(side: str, name: str, progress: cache.Progress) -> NspawnHost:
    def prepare(root: Path) -> None:
        (root / "etc/hostname").write_text(f"{name}\n")
        if side == "ours":
            appliance.install(root)

    flavour = image.FLAVOURS["debian12-people-stock" if side == "stock" else "debian12-people"]
    return NspawnHost(flavour, prepare=prepare, progress=progress)


@pytest.fixture(scope="module")
def pair_of_hosts(side: str, progress: cache.Progress) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, progress, side, side)


@pytest.fixture
def pair(pair_of_hosts: Pair) -> Pair:
    """A swarm of two hosts of this side that runs nothing."""
    pair_of_hosts.settle()
    return pair_of_hosts


@pytest.fixture
def swarm(pair: Pair) -> Swarm:
    return pair.swarm


def test_two_hosts_form_a_swarm(swarm: Swarm) -> None:
    nodes = swarm.manager.check("docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}'").splitlines()
    assert sorted(line.strip() for line in nodes) == ["one Ready Active Leader", "two Ready Active"]
    assert swarm.worker.check("docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'") == "active false\n"


def test_an_overlay_network_carries_traffic_between_containers_on_both_hosts(swarm: Swarm) -> None:
    swarm.manager.check(["docker", "run", "-d", "--name", "peer", "--network", NETWORK, "busybox", "/bin/sh", "-c", swarms.PAGE])
    try:
        address = swarm.manager.check(f"docker inspect -f '{{{{.NetworkSettings.Networks.{NETWORK}.IPAddress}}}}' peer").strip()
        inside = swarm.worker.check(f"docker run --rm --network {NETWORK} busybox /bin/busybox nslookup peer")
        assert f"Address: {address}\n" in inside
        swarm.worker.check(f"docker run --rm --network {NETWORK} busybox /bin/busybox ping -c 3 -W 5 {address}")
        data = f"/bin/busybox dd if=/dev/zero bs=1M count=20 2>/dev/null | /bin/busybox nc {address} 9000"
        sink = ["docker", "exec", "-i", "peer", "/bin/sh", "-c", "/bin/busybox nc -l -p 9000 | /bin/busybox wc -c"]
        received = swarm.manager.popen(sink, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # at the end of its input nc would hang up
        with received:
            swarm.manager.wait_until("docker exec peer /bin/sh -c '/bin/busybox netstat -lnt' | grep -q :9000")
            swarm.worker.check(["docker", "run", "--rm", "--network", NETWORK, "busybox", "/bin/sh", "-c", data])
            assert received.stdout is not None
            assert received.stdout.read() == b"20971520\n"
    finally:
        swarm.manager.check("docker rm -f peer")


def test_a_service_is_found_by_its_name_on_both_hosts(swarm: Swarm) -> None:
    serve(swarm, "web", "--mode=global")
    wait_for_tasks(swarm, "web", "one", "two")
    wait_for_pages(swarm.manager, "web", "one", "two")
    wait_for_pages(swarm.worker, "web", "one", "two")


def test_a_service_is_scaled_up_and_down_over_both_hosts(swarm: Swarm) -> None:
    serve(swarm, "web", "--replicas=1")
    swarm.manager.check("docker service scale --detach web=4")
    wait_for_tasks(swarm, "web", "one", "one", "two", "two")
    wait_for_pages(swarm.worker, "web", "one", "one", "two", "two")
    swarm.manager.check("docker service scale --detach web=2")
    wait_for_tasks(swarm, "web", "one", "two")
    wait_for_pages(swarm.manager, "web", "one", "two")


def test_a_service_is_updated_task_by_task(swarm: Swarm) -> None:
    serve(swarm, "web", "--replicas=2")
    wait_for_tasks(swarm, "web", "one", "two")
    swarm.manager.check("docker service update --detach --env-add=ROUND=2 --update-delay=0s web")
    swarm.manager.wait_until("docker service inspect -f '{{.UpdateStatus.State}}' web | grep -x completed", timeout=90)
    for host in (swarm.manager, swarm.worker):
        assert host.check("docker exec $(docker ps -q -f label=com.docker.swarm.service.name=web) /bin/sh -c 'echo $ROUND'") == "2\n"


def test_a_port_published_by_the_hosts_answers_on_each(pair: Pair) -> None:
    serve(pair.swarm, "web", "--mode=global", "--publish=mode=host,published=8080,target=80")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    for client in (pair.manager, pair.worker):
        for number, name in enumerate(("one", "two"), 1):
            client.wait_until(f"/bin/busybox wget -qO- http://10.77.0.{number}:8080/ | grep -x {name}")


def test_a_stack_file_with_a_secret_and_a_config_is_deployed_to_both_hosts(swarm: Swarm) -> None:
    swarm.manager.write("/srv/stack/secret.txt", "hush")
    swarm.manager.write("/srv/stack/config.txt", "of the stack\n")
    swarm.manager.write("/srv/stack/stack.yml", STACK)
    swarm.manager.check("cd /srv/stack && docker stack deploy --resolve-image=never --compose-file stack.yml app")
    try:
        wait_for_tasks(swarm, "app_web", "one", "two")
        for host in (swarm.manager, swarm.worker):
            task = "docker exec $(docker ps -q -f label=com.docker.stack.namespace=app)"
            assert host.check(f"{task} /bin/busybox cat /run/secrets/word /etc/app.conf") == "hushof the stack\n"
    finally:
        swarm.manager.check("docker stack rm app")


STACK = """\
version: "3.8"
services:
  web:
    image: busybox
    command: [/bin/busybox, sleep, "100000"]
    stop_signal: KILL
    deploy: {mode: global, endpoint_mode: dnsrr}
    secrets: [word]
    configs: [{source: conf, target: /etc/app.conf}]
secrets: {word: {file: secret.txt}}
configs: {conf: {file: config.txt}}
"""


def test_a_host_that_is_drained_gives_its_tasks_to_the_other(swarm: Swarm) -> None:
    serve(swarm, "web", "--replicas=2")
    wait_for_tasks(swarm, "web", "one", "two")
    swarm.manager.check("docker node update --availability=drain two")
    wait_for_tasks(swarm, "web", "one", "one")


def test_tasks_of_a_host_that_lost_power_move_and_it_comes_back_into_the_swarm(pair: Pair) -> None:
    serve(pair.swarm, "web", "--replicas=2")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    pair.worker.stop(force=True)
    try:
        wait_for_nodes(pair.swarm, "Ready", "Down")
        wait_for_tasks(pair.swarm, "web", "one", "one")
        wait_for_pages(pair.manager, "web", "one", "one")
    finally:
        pair.network.boot(pair.worker)
    wait_for_nodes(pair.swarm, "Ready", "Ready")
    pair.manager.check("docker service scale --detach web=4")
    wait_for_tasks(pair.swarm, "web", "one", "one", "two", "two")
    wait_for_pages(pair.worker, "web", "one", "one", "two", "two")


def test_tasks_of_a_host_whose_cable_is_pulled_move_and_it_comes_back_into_the_swarm(pair: Pair) -> None:
    serve(pair.swarm, "web", "--replicas=2")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    pair.network.unplug(pair.worker)
    try:
        wait_for_nodes(pair.swarm, "Ready", "Down")
        wait_for_tasks(pair.swarm, "web", "one", "one")
    finally:
        pair.network.plug(pair.worker)
    wait_for_nodes(pair.swarm, "Ready", "Ready")
    pair.worker.wait_until('[ -z "$(docker ps --quiet --filter label=com.docker.swarm.task)" ]')


@pytest.mark.parametrize("which", ["manager", "worker"])
def test_a_host_whose_engine_restarts_is_back_with_its_tasks(which: str, pair: Pair) -> None:
    serve(pair.swarm, "web", "--mode=global")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    host = pair.manager if which == "manager" else pair.worker
    before = host.check(RUNNING_TASK).strip()
    host.check("systemctl restart docker", timeout=120)
    wait_for_nodes(pair.swarm, "Ready", "Ready")
    host.wait_until(f'new=$({RUNNING_TASK}) && [ -n "$new" ] && [ "$new" != {before} ]')
    wait_for_tasks(pair.swarm, "web", "one", "two")
    wait_for_pages(pair.manager, "web", "one", "two")
    wait_for_pages(pair.worker, "web", "one", "two")


def test_a_host_whose_dockerd_is_killed_is_back_with_its_tasks(pair: Pair) -> None:
    serve(pair.swarm, "web", "--mode=global")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    pid = pair.worker.check("cat /run/docker.pid").strip()
    pair.worker.check(f"kill -9 {pid}")
    pair.worker.wait_until(f"[ $(cat /run/docker.pid) != {pid} ] && docker info >/dev/null 2>&1", timeout=60)
    wait_for_nodes(pair.swarm, "Ready", "Ready")
    wait_for_tasks(pair.swarm, "web", "one", "two")
    wait_for_pages(pair.manager, "web", "one", "two")


def test_a_kernel_without_virtual_servers_is_named_in_the_journal(pair: Pair) -> None:
    if Path("/proc/net/ip_vs").exists() or pair.manager.run("modprobe ip_vs").status == 0:
        pytest.skip("this machine's kernel has IP_VS")
    serve(pair.swarm, "virtual", "--mode=global", "--endpoint-mode=vip")
    wait_for_tasks(pair.swarm, "virtual", "one", "two")
    pair.manager.wait_until("journalctl -u docker | grep 'ipvs is not enabled in your kernel'")


def encryption() -> str:
    """Why this machine's kernel can have no encrypted overlay; empty if it can."""
    key = "0x" + 20 * "00"
    state = f"src 127.0.0.1 dst 127.0.0.2 proto esp spi 1 mode transport aead rfc4106(gcm(aes)) {key} 64"
    done = subprocess.run(["unshare", "--net", "ip", "xfrm", "state", "add", *state.split()], capture_output=True, text=True, check=False)
    return f"this machine's kernel has no ESP with AES-GCM (INET_ESP, CRYPTO_GCM): {done.stderr.strip()}" if done.returncode else ""


def test_an_encrypted_overlay_network_carries_traffic(swarm: Swarm) -> None:
    if reason := encryption():
        pytest.skip(reason)
    swarm.manager.check(["docker", "network", "create", "--driver=overlay", "--opt=encrypted", "--attachable", "secret"])
    try:
        serve(swarm, "web", "--mode=global", network="secret")
        wait_for_tasks(swarm, "web", "one", "two")
        wait_for_pages(swarm.worker, "web", "one", "two", network="secret")
    finally:
        swarm.manager.check("docker service rm web")
        swarm.manager.wait_until("docker network rm secret")


def test_a_swarm_refuses_live_restore(docker: Host) -> None:
    docker.write("/etc/docker/daemon.json", '{"live-restore": true}')
    docker.check("systemctl reload docker && until docker info -f '{{.LiveRestoreEnabled}}' | grep -q true; do sleep 0.1; done")
    refused = docker.run("docker swarm init --advertise-addr 127.0.0.1")
    assert (refused.status, refused.stdout) == (1, "")
    assert "--live-restore daemon configuration is incompatible with swarm mode" in refused.stderr


@only_ours("the same swarm, half of it ours")
@pytest.mark.parametrize(("manager", "worker"), [("ours", "stock"), ("stock", "ours")])
def test_the_appliance_and_a_distributions_docker_form_a_swarm(manager: str, worker: str, progress: cache.Progress) -> None:
    with ExitStack() as stack:
        pair = Pair(stack, progress, manager, worker)
        versions = pair.manager.check("docker node inspect -f '{{.Description.Engine.EngineVersion}}' one two").split()
        assert len(set(versions)) == 2
        serve(pair.swarm, "web", "--replicas=2")
        wait_for_tasks(pair.swarm, "web", "one", "two")
        for host in (pair.manager, pair.worker):
            wait_for_pages(host, "web", "one", "two")
        pair.worker.check("docker swarm leave")
        wait_for_tasks(pair.swarm, "web", "one", "one")
