"""A kernel of its own: boots, power cuts, modules, a read-only /usr, AppArmor and SELinux.

One virtual machine a side: /usr is a disk of its own, mounted read only, and AppArmor's programs are installed, as Debian does it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from hosts import cache, image, vm
from hosts.fixtures import need
from hosts.host import Host, HostError
from hosts.vm import VmHost
from stock.conftest import take_up
from stock.marks import differs, only_ours

FLAVOURS = {"stock": "debian12-vm-apparmor-stock", "ours": "debian12-vm-apparmor"}
# Of what modules-load.d names, what a bridge network and a published port cannot be without, and what iptables takes where it is nft's.
MODULES = {"overlay", "bridge", "br_netfilter", "nf_nat", "xt_conntrack", "xt_addrtype", "veth", "nf_tables", "nft_compat", "nft_chain_nat"}
MAKE_BUSYBOX = """\
mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && ln -sf busybox /tmp/image/bin/sh
tar -C /tmp/image -c . | docker import - busybox
"""
SLEEP = "busybox /bin/busybox sleep 100000"
POLICIES = ("no", "on-failure", "always", "unless-stopped")


def put_packages_files(root: Path) -> None:
    """The appliance as a package for any host leaves it where /usr is an image that nobody adds to: what is in /opt and /etc."""
    appliance.install_with_images(root)
    for link in (root / "usr/local/bin").iterdir():
        link.unlink()


@pytest.fixture(scope="module")
def machine(side: str, progress: cache.Progress) -> Iterator[VmHost]:
    """Up, with Docker of this side enabled and running, and busybox in its images."""
    need(vm.lacking())
    prepare = put_packages_files if side == "ours" else None
    with VmHost(image.FLAVOURS[FLAVOURS[side]], prepare=prepare, usr_apart=True, progress=progress) as host:
        host.boot()
        take_up(host, side)
        check(host, MAKE_BUSYBOX)
        yield host


def check(host: Host, command: str, **arguments: float) -> str:
    """With the directory on PATH that the commands are linked in where /usr is read only."""
    return host.check(f"PATH=$PATH:/opt/bin\n{command}", **arguments)


def wait_until(host: Host, command: str, **arguments: float) -> str:
    return host.wait_until(f"PATH=$PATH:/opt/bin\n{command}", **arguments)


def assert_docker_works(host: Host) -> None:
    """It was started at boot, runs containers, and a published port answers."""
    wait_until(host, "systemctl is-active docker", timeout=60)
    assert host.check("systemctl is-system-running --wait").strip() == "running"
    check(host, "docker rm -f web; docker run -d --name web -p 8080:80 busybox /bin/busybox httpd -f -h /bin >/dev/null")
    wait_until(host, "/bin/busybox wget -qO /dev/null http://127.0.0.1:8080/sh", timeout=10)
    check(host, "docker rm -f web")


def modules(host: Host) -> set[str]:
    return {line.split()[0] for line in host.check("cat /proc/modules").splitlines()}


def test_docker_works_though_usr_is_read_only(machine: VmHost) -> None:
    assert "Read-only file system" in machine.run("touch /usr/local/bin/x").stderr
    assert_docker_works(machine)


@only_ours("the distribution's commands are in /usr/bin")
def test_the_commands_are_in_opt_bin_though_usr_is_read_only(machine: VmHost) -> None:
    links = dict(line.split() for line in machine.check("cd /opt/bin && for name in *; do echo $name $(readlink $name); done").splitlines())
    assert links == {
        **{name: f"/opt/skim/bin/{name}" for name in ("dockerd", "rkt", "skim")},
        **{name: f"/run/skim/docker/containerd/usr/bin/{name}" for name in ("containerd", "ctr")},
        "docker": "/run/skim/docker/docker/usr/bin/docker",
        "runc": "/run/skim/docker/containerd/usr/sbin/runc",
    }


def test_containers_are_confined_by_apparmor(machine: VmHost) -> None:
    assert "name=apparmor" in check(machine, "docker info -f '{{.SecurityOptions}}'")
    assert check(machine, "docker run --rm busybox /bin/busybox cat /proc/self/attr/current") == "docker-default (enforce)\n"
    loose = "docker run --rm --security-opt apparmor=unconfined busybox /bin/busybox cat /proc/self/attr/current"
    assert check(machine, loose) == "unconfined\n"


def test_the_kernel_has_the_modules_that_docker_needs(machine: VmHost) -> None:
    assert modules(machine) >= MODULES


@only_ours("the complaint is about systems that bring Docker as we do")
def test_modprobe_works_from_inside(machine: VmHost) -> None:
    """moby#38209, coreos bugs#1579: what dockerd asks modprobe for comes from the host's own modules."""
    machine.check("modprobe -r dummy; ! grep '^dummy ' /proc/modules")
    machine.check("/opt/skim/bin/rkt enter --app=docker $(cat /var/lib/skim/pod-uuid) modprobe dummy && grep '^dummy ' /proc/modules")


@only_ours("there, modules are loaded when Docker runs into them")
class TestModules:
    """Docker is stopped and started around each."""

    @pytest.fixture
    def stopped(self, machine: VmHost) -> Iterator[VmHost]:
        machine.check(
            "systemctl stop docker.service docker.socket; /bin/busybox ip link delete docker0 2>/dev/null; modprobe -r br_netfilter veth"
        )
        assert not modules(machine) & {"br_netfilter", "veth"}
        yield machine
        machine.run("umount /lib/modules; cd /etc/modules-load.d && [ ! -e skim.was ] || mv skim.was skim.conf")
        machine.run("systemctl reset-failed docker.service; systemctl start docker")

    @staticmethod
    def start(host: Host) -> str:
        """What docker.service said of modules at this start."""
        started = host.check(
            "systemctl start docker & wait $! && journalctl --sync && systemctl show --value -p InvocationID docker"
        ).strip()
        lines = host.check(f"journalctl -o cat --no-pager _SYSTEMD_INVOCATION_ID={started}").splitlines()
        return "\n".join(line for line in lines if line.startswith(("load-modules", "modprobe")))

    def test_what_was_unloaded_is_loaded_before_docker_starts(self, stopped: VmHost) -> None:
        assert self.start(stopped) == ""
        assert modules(stopped) >= {"br_netfilter", "veth"}

    def test_what_is_built_in_or_missing_is_passed_over(self, stopped: VmHost) -> None:
        stopped.check("cd /etc/modules-load.d && cp skim.conf skim.was && printf '%s\\n' no_such_module unix >skim.new")
        stopped.check("cd /etc/modules-load.d && cat skim.was >>skim.new && mv skim.new skim.conf")
        assert "unix" in stopped.check("cat /lib/modules/$(uname -r)/modules.builtin")
        assert self.start(stopped) == ""
        assert modules(stopped) >= {"br_netfilter", "veth"}

    def test_a_kernel_package_upgraded_without_a_reboot_is_explained(self, stopped: VmHost) -> None:
        stopped.check("modprobe br_netfilter && mount -t tmpfs tmpfs /lib/modules && mkdir /lib/modules/7.0.0-1-amd64")
        release = stopped.check("uname -r").strip()
        said = self.start(stopped)
        assert f"the running kernel is {release}" in said
        assert "7.0.0-1-amd64" in said
        assert said.endswith(": veth")
        assert stopped.check("systemctl is-active docker") == "active\n"


@pytest.fixture
def networkd(machine: VmHost) -> Iterator[VmHost]:
    """Told to ask for an address on every link, as images of clouds tell it."""
    machine.write("/etc/systemd/network/80-all.network", "[Match]\nName=en* docker* br-* veth*\n\n[Network]\nDHCP=yes\n")
    yield machine
    machine.check("rm /etc/systemd/network/80-all.network; systemctl restart systemd-networkd docker")


@differs("stock", "nothing there keeps networkd from Docker's bridges and links")
def test_networkd_leaves_docker_alone_though_it_is_told_to_take_every_link(networkd: VmHost) -> None:
    check(
        networkd, f"docker network create extra && docker run -d --name other --network extra {SLEEP} && docker run -d --name plain {SLEEP}"
    )
    try:
        networkd.check("systemctl restart systemd-networkd")
        # What networkctl shows, which would ask by way of D-Bus.
        list_links = (
            "cd /sys/class/net && for link in docker* br-* veth*; do"
            " echo $link $(sed -n s/^ADMIN_STATE=//p /run/systemd/netif/links/$(cat $link/ifindex)); done"
        )
        known = f"[ $({list_links} | grep -cE ' (unmanaged|conf|degraded|failed|linger)') = 4 ] && {list_links}"
        states = dict(map(str.split, networkd.wait_until(known, timeout=10).splitlines()))
        assert set(states.values()) == {"unmanaged"}, states
    finally:
        check(networkd, "docker rm -f other plain; docker network rm extra")


def test_a_restart_of_networkd_changes_nothing(machine: VmHost) -> None:
    check(machine, "docker run -d --name web -p 8080:80 busybox /bin/busybox httpd -f -h /bin")
    machine.check("systemctl restart systemd-networkd")
    ask = "timeout 20 /bin/busybox wget -qO /dev/null http://$(docker inspect -f '{{.NetworkSettings.IPAddress}}' web)/sh"
    check(machine, f"{ask} && docker rm -f web")


@only_ours("it loads no modules before it starts")
def test_a_kernel_that_takes_no_more_modules_is_explained(machine: VmHost) -> None:
    """Until the reboot, which is the next test."""
    machine.check("systemctl stop docker.service docker.socket; modprobe -r xfrm_user && echo 1 >/proc/sys/kernel/modules_disabled")
    said = TestModules.start(machine)
    assert "takes no more modules" in said
    assert said.endswith(": xfrm_user")
    assert machine.check("systemctl is-active docker") == "active\n"


def test_after_a_reboot_those_containers_are_back_that_should(machine: VmHost) -> None:
    check(machine, f"for policy in {' '.join(POLICIES)}; do docker run -d --name $policy --restart $policy {SLEEP}; done")
    check(machine, f"for policy in always unless-stopped; do docker run -d --name stopped-$policy --restart $policy {SLEEP}; done")
    check(machine, "docker stop -t 1 stopped-always stopped-unless-stopped")
    machine.reboot()
    wait_until(machine, "systemctl is-active docker", timeout=60)
    shown = check(machine, "docker ps -a --format '{{.Names}} {{.State}} {{.Status}}'")
    states = {line.split()[0]: line.split()[1] for line in shown.splitlines()}
    # Not always back on stock, either: how it ended is for the shutdown to say.
    assert states.pop("on-failure") in ("running", "exited")
    back = {"always", "unless-stopped", "stopped-always"}
    assert states == {name: "running" if name in back else "exited" for name in (*back, "no", "stopped-unless-stopped")}, shown
    check(machine, "docker ps -aq | xargs docker rm -f")
    assert_docker_works(machine)


@only_ours("there is no pod")
def test_after_a_reboot_no_pod_is_left_over(machine: VmHost) -> None:
    assert_one_pod(machine)


def assert_one_pod(host: Host) -> None:
    uuid = check(host, "cat /var/lib/skim/pod-uuid").strip()
    try:
        wait_until(host, f'[ "$(ls -d /var/lib/rkt/pods/*/*)" = /var/lib/rkt/pods/run/{uuid} ]', timeout=30)
        wait_until(host, '[ -z "$(ls /var/lib/skim/old)" ]', timeout=10)
    except HostError as error:
        error.add_note(host.run("ls -ld /var/lib/rkt/pods/*/* /var/lib/skim/old/*; journalctl -b -u docker -u skim-collect").stdout)
        raise
    assert uuid[:8] in host.check("/opt/skim/bin/rkt list")


# Where the power goes: what leads there, and what is then so.
CUTS = {
    "start: containerd is up": ("systemctl start --no-block docker", "systemctl -q is-active '{containerd}'"),
    "docker load: the archive arrives": ("docker load -i /var/tmp/big.tar >/dev/null 2>&1 &", '[ -n "$(ls /var/lib/docker/tmp)" ]'),
    "docker load: a layer is unpacked": (
        "ls /var/lib/docker/overlay2 >/tmp/layers; docker load -i /var/tmp/big.tar >/dev/null 2>&1 &",
        "! ls /var/lib/docker/overlay2 | cmp -s - /tmp/layers",
    ),
    "stop: containers are stopped": (
        "systemctl stop --no-block docker",
        "systemctl show -p ActiveState '{docker}' | grep -q deactivating",
    ),
    "stop: dockerd is gone": ("systemctl stop --no-block docker", "[ ! -e /run/docker.pid ]"),
}
# Of our starts: the directory may be on the disk, and the UUID not.
POD_CUTS = {
    "the pod has a directory": '[ -n "$(ls /var/lib/rkt/pods/prepare)" ]',
    "the pod is noted": "[ -s /var/lib/skim/pod-uuid ]",
}
UNITS = {
    "stock": {"docker": "docker.service", "containerd": "containerd.service"},
    "ours": {"docker": "docker-rkt-*", "containerd": "containerd-rkt-*"},
}


@pytest.fixture(scope="module")
def loaded(machine: VmHost) -> VmHost:
    """With a container that is always there, and the archive of an image that takes seconds to load."""
    check(machine, f"docker rm -f keeper; docker run -d --name keeper --restart always {SLEEP}")
    check(machine, "tar -C /usr -c bin sbin | docker import - big && docker save -o /var/tmp/big.tar big && docker rmi big")
    machine.check("sync")
    return machine


class TestPowerCut:
    """QEMU is killed at a chosen moment."""

    @pytest.mark.parametrize("moment", CUTS)
    def test_the_next_boot_works_after_a_power_cut_during(self, loaded: VmHost, side: str, moment: str) -> None:
        act, condition = CUTS[moment]
        if moment.startswith("start"):
            loaded.check(f"systemctl stop docker.service docker.socket {'containerd.service' if side == 'stock' else ''} && sync")
        cut(loaded, act, condition.format(**UNITS[side]))
        assert_all_is_back(loaded, side)
        if moment.startswith("docker load"):
            assert "big" in check(loaded, "docker load -i /var/tmp/big.tar && docker rmi big && sync")

    @only_ours("there is no pod")
    @pytest.mark.parametrize("condition", POD_CUTS.values(), ids=POD_CUTS)
    def test_the_next_boot_works_after_a_power_cut_when(self, loaded: VmHost, side: str, condition: str) -> None:
        loaded.check("systemctl stop docker.service docker.socket && sync")
        cut(loaded, "systemctl start --no-block docker", condition)
        assert_all_is_back(loaded, side)


def assert_all_is_back(host: VmHost, side: str) -> None:
    assert_docker_works(host)
    if side == "ours":
        assert_one_pod(host)
    wait_until(host, "docker ps --format '{{.Names}}' | grep -x keeper", timeout=30)


def cut(host: VmHost, act: str, condition: str) -> None:
    """Cut the power when `act` has led to `condition`, and boot."""
    script = f"PATH=$PATH:/opt/bin\n{act}\nuntil {condition}; do :; done; echo now; exec sleep 1000"
    command = ["timeout", "300", "sh", "-c", script]
    with host.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = os.read(process.stdout.fileno(), 100)
        host.stop(force=True)
        process.kill()
    host.boot()
    assert said == b"now\n"


def test_docker_works_without_apparmor_and_with_an_selinux_that_has_no_policy(machine: VmHost) -> None:
    """Told `apparmor=0`, Debian's kernel turns SELinux on in its place, as it does told `security=selinux`."""
    machine.stop(force=True)
    machine.set_kernel_arguments("apparmor=0")
    machine.boot()
    active = machine.check("cat /sys/kernel/security/lsm").strip().split(",")
    assert "apparmor" not in active
    assert "selinux" in active
    assert_docker_works(machine)
    assert "apparmor" not in check(machine, "docker info -f '{{.SecurityOptions}}'")
