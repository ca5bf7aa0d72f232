"""A swarm of two hosts with the appliance and a kernel of their own: virtual IPs, the routing mesh, encrypted networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

import appliance
import swarms
from docker_behaviour import MAKE_BUSYBOX
from hosts import cache
from hosts.host import Host
from hosts.vm import VmHost, cable_between
from swarms import NETWORK, Swarm, serve, wait_for_pages, wait_for_tasks

ASK_THE_VIRTUAL_IP = """\
address=$(/bin/busybox nslookup web 2>/dev/null | /bin/busybox sed -n 's/^Address: \\([0-9.]*\\)$/\\1/p')
for n in 1 2 3 4; do
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 20 "$address" 80 | /bin/busybox tail -n 1
done
"""
THE_TASKS_IN_TURN = """\
said=$(docker run --rm --network "$0" busybox /bin/sh -c "$1" | sort)
echo "$said"
[ "$said" = "one\none\ntwo\ntwo" ]
"""


def prepare(number: int, name: str, root: Path) -> None:
    appliance.install_with_images(root)
    (root / "etc/hostname").write_text(f"{name}\n")
    network = f"[Match]\nMACAddress=52:54:00:77:00:0{number}\n\n[Network]\nAddress=10.77.0.{number}/24\n"
    (root / "etc/systemd/network/40-cable.network").write_text(network)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory, progress: cache.Progress) -> Iterator[Swarm]:
    """Two hosts on a cable, in a swarm that runs a service `web` on each, with a virtual IP and port 8080."""
    with ExitStack() as stack:
        hosts = []
        cable = cable_between(tmp_path_factory.mktemp("cable"))
        for number, (name, end) in enumerate(zip(("one", "two"), cable, strict=True), 1):
            host = stack.enter_context(VmHost(prepare=partial(prepare, number, name), cable=end, progress=progress))
            host.boot()
            host.check("skim setup && systemctl start docker", timeout=600)
            host.check(MAKE_BUSYBOX)
            hosts.append(host)
        made = Swarm(hosts[0], hosts[1])
        swarms.form(made, "10.77.0.1", heartbeat="5s")
        serve(made, "web", "--mode=global", "--endpoint-mode=vip", "--publish=8080:80")
        wait_for_tasks(made, "web", "one", "two")
        yield made


def modules(host: Host) -> set[str]:
    return {line.split()[0] for line in host.check("cat /proc/modules").splitlines()}


def test_a_services_virtual_ip_leads_to_its_tasks_on_both_hosts(swarm: Swarm) -> None:
    for host in swarm[:2]:
        host.wait_until(["sh", "-c", THE_TASKS_IN_TURN, NETWORK, ASK_THE_VIRTUAL_IP])
        assert modules(host) >= {"ip_vs", "ip_vs_rr", "xt_ipvs", "vxlan"}


def test_a_port_of_the_swarm_answers_on_every_host_from_every_task(swarm: Swarm) -> None:
    for number in (1, 2):
        ask = f"for n in 1 2 3 4; do /bin/busybox wget -qO- http://10.77.0.{number}:8080/; done | sort -u"
        swarm.worker.wait_until(f'said=$({ask}); echo "$said"; [ "$said" = "one\ntwo" ]')


def test_the_journal_has_no_error_about_virtual_servers(swarm: Swarm) -> None:
    assert "net.ipv4.vs" not in swarm.worker.check("journalctl -u docker")


def test_an_encrypted_overlay_network_carries_traffic(swarm: Swarm) -> None:
    swarm.manager.check(["docker", "network", "create", "--driver=overlay", "--opt=encrypted", "--attachable", "secret"])
    serve(swarm, "hidden", "--mode=global", network="secret")
    wait_for_tasks(swarm, "hidden", "one", "two")
    wait_for_pages(swarm.worker, "hidden", "one", "two", network="secret")
    assert "esp4" in modules(swarm.worker)
