"""Docker as an appliance on a host with a kernel of its own: cgroup v2, kernel modules. tests/stock/test_boot.py reboots it."""

from __future__ import annotations

from docker_behaviour import DockerEveryday, DockerFaults
from hosts.host import Host


class TestEveryday(DockerEveryday):
    """On Debian's own kernel."""


class TestFaults(DockerFaults):
    """On cgroup v2, where systemd and dockerd share one hierarchy."""

    cycles = 3


def modules(host: Host) -> set[str]:
    return {line.split()[0] for line in host.check("cat /proc/modules").splitlines()}


def test_modules_are_loaded_at_boot(docker_host: Host) -> None:
    docker_host.check("systemctl restart systemd-modules-load.service")
    assert modules(docker_host) >= {"overlay", "bridge", "br_netfilter"}


def test_the_hosts_modules_are_in_the_pod(docker_host: Host) -> None:
    docker_host.check("systemctl start docker")
    kernel = docker_host.check("uname -r").strip()
    assert docker_host.check(f"ls /run/skim/docker/docker/lib/modules/{kernel}/modules.dep")
    assert docker_host.run("touch /run/skim/docker/docker/lib/modules/written").status != 0
