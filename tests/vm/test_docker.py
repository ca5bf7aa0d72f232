"""Docker as an appliance on a host with a kernel of its own: cgroup v2, kernel modules, reboots, power cuts."""

from __future__ import annotations

from docker_behaviour import MAKE_BUSYBOX, DockerEveryday, DockerFaults, pod_uuid
from hosts.host import Host
from hosts.vm import VmHost

# Of the modules in modules-load.d, those that a bridge network and a published port cannot be without.
MODULES = {"overlay", "bridge", "br_netfilter", "nf_nat", "xt_conntrack", "xt_addrtype", "veth"}


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


def test_after_a_reboot_docker_is_up_and_the_old_pod_is_gone(docker_host: VmHost) -> None:
    docker_host.check("systemctl start docker")
    old = pod_uuid(docker_host)
    docker_host.check(MAKE_BUSYBOX)
    docker_host.check("docker rm -f always; docker run -d --name always --restart always busybox /bin/busybox sleep 100000")
    docker_host.reboot()
    docker_host.wait_until("systemctl is-active docker", timeout=180)
    assert modules(docker_host) >= MODULES
    docker_host.wait_until("docker ps --format '{{.Names}}' | grep -x always", timeout=60)
    docker_host.wait_until(f"! ls -d /var/lib/rkt/pods/*/{old}", timeout=60)
    assert pod_uuid(docker_host) != old
    assert old not in docker_host.check("/opt/skim/bin/rkt list --full")


def test_after_a_power_cut_docker_is_up_and_the_old_pod_is_gone(docker_host: VmHost) -> None:
    docker_host.check("systemctl start docker")
    old = pod_uuid(docker_host)
    docker_host.stop(force=True)
    docker_host.boot()
    docker_host.wait_until("systemctl is-active docker", timeout=180)
    docker_host.wait_until(f"! ls -d /var/lib/rkt/pods/*/{old}", timeout=60)
    assert "running" in docker_host.check("/opt/skim/bin/rkt list")
