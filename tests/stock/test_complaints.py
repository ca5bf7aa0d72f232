"""What users of comparable systems complain of, and what happens here"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import appliance
from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.conftest import take_up
from stock.marks import only_ours
from stock.programs import containerd_pid, dockerd_pid, stop_docker

pytestmark = only_ours("the complaint is about systems that bring Docker as we do")


@pytest.fixture(scope="module")
def engine_host(progress: cache.Progress) -> Iterator[Host]:
    """A host of its own: engines are set up anew on it."""
    with NspawnHost(image.FLAVOURS["debian12-people"], prepare=appliance.install, progress=progress) as host:
        host.boot()
        take_up(host, "ours")
        yield host


@pytest.fixture
def up(ours: Host) -> Host:
    ours.check("systemctl reset-failed docker.service 2>/dev/null; systemctl start docker.service")
    if ours.run("docker image inspect busybox").status != 0:
        ours.check("mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && tar -C /tmp/image -c . | docker import - busybox")
    ours.check("docker ps -aq | xargs -r docker rm -f")
    return ours


def setup_with(host: Host, image_file: str) -> str:
    """`skim setup` with another docker.aci, which has to fail; what it said."""
    host.check(
        f"cp /etc/skim/docker.conf /root/docker.conf && sed -i 's|^DOCKER_IMAGE=.*|DOCKER_IMAGE={image_file}|' /etc/skim/docker.conf"
    )
    done = host.run("skim setup", timeout=120)
    host.check("mv /root/docker.conf /etc/skim/docker.conf")
    assert done.status != 0
    return done.stderr


def test_an_update_that_cannot_be_read_does_not_take_docker_away(engine_host: Host) -> None:
    """flatcar#2111, #1328"""
    before = engine_host.check("docker version -f '{{.Server.Version}}'")
    engine_host.check("head -c 1000000 /opt/skim/images/docker.aci > /root/torn.aci")
    assert "/root/torn.aci" in setup_with(engine_host, "/root/torn.aci")
    assert engine_host.check("docker version -f '{{.Server.Version}}'") == before
    engine_host.check("systemctl restart docker.service && docker info >/dev/null")


def test_a_failed_switch_of_version_leaves_the_former_docker(engine_host: Host) -> None:
    """rancher os#1918, #2792: an image that is read well and is no Docker."""
    engine_host.check("cp /opt/skim/images/containerd.aci /root/other.aci")
    setup_with(engine_host, "/root/other.aci")
    engine_host.check("docker --version && systemctl restart docker.service && docker info >/dev/null")
    assert "docker" in engine_host.check("skim status")


def test_the_engine_lies_on_disk_and_not_in_memory(up: Host) -> None:
    """torcx#130, #62"""
    for path in ("/run/skim/engine/docker", "/run/skim/docker/docker", "/run/skim/engine/containerd"):
        assert up.check(f"stat -f -c %T {path}").strip() not in ("tmpfs", "ramfs")


def test_docker_is_back_after_a_reboot(engine_host: NspawnHost) -> None:
    """torcx#130: a reboot left hosts without Docker. Nothing but the boot starts it here: nobody uses the socket."""
    engine_host.reboot()
    engine_host.wait_until("systemctl is-active docker.service", timeout=30)
    engine_host.check("docker info >/dev/null")


def test_containers_that_restart_always_are_back_after_a_reboot(engine_host: NspawnHost) -> None:
    """flatcar#134, #336: only the socket was enabled, and they stayed down until somebody used it."""
    engine_host.check("mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && tar -C /tmp/image -c . | docker import - busybox")
    engine_host.check("docker run -d --name always --restart always busybox /bin/busybox sleep 1234567")
    engine_host.reboot()
    engine_host.wait_until("pgrep -f '[s]leep 1234567'", timeout=30)


def test_etc_docker_is_read(up: Host) -> None:
    """docker-snap#189"""
    up.write("/etc/docker/daemon.json", '{"labels": ["read=yes"]}')
    try:
        assert up.check("systemctl restart docker.service && docker info -f '{{.Labels}}'").strip() == "[read=yes]"
    finally:
        up.check("rm /etc/docker/daemon.json && systemctl restart docker.service")


def test_docker_config_is_read(up: Host) -> None:
    """docker-snap#34"""
    up.write("/srv/client/config.json", '{"psFormat": "mine {{.Names}}"}')
    up.check("docker run -d --name shown busybox /bin/busybox sleep 1000")
    assert up.check("docker ps", environment={"DOCKER_CONFIG": "/srv/client"}).strip() == "mine shown"


def test_work_outside_of_home(up: Host) -> None:
    """docker-snap#272"""
    up.write("/srv/deep/down/Dockerfile", "FROM busybox\nCOPY file /file\n")
    up.write("/srv/deep/down/file", "from outside\n")
    up.check("cd /srv/deep/down && docker build -t outside . && docker save -o ./saved.tar outside", timeout=120)
    assert up.check("docker run --rm -v /srv/deep/down:/here outside /bin/busybox cat /file /here/file") == "from outside\n" * 2


def test_containers_can_be_stopped(up: Host) -> None:
    """docker-snap#39: its AppArmor profile did not let it."""
    up.check("docker run -d --name stops busybox /bin/busybox sleep 1000 && docker stop -t 1 stops && docker rm stops")


def test_containerd_is_stopped_last_and_no_shim_is_left(up: Host) -> None:
    """docker-snap#76"""
    up.check("docker run -d busybox /bin/busybox sleep 1000")
    uuid = up.check("cat /var/lib/skim/pod-uuid").strip()
    stop_docker(up)
    up.check("journalctl --sync")
    ended = [
        int(
            up.check(
                f"journalctl -o export --no-pager UNIT={app}-rkt-{uuid}.service | grep -a ^__MONOTONIC_TIMESTAMP= | tail -n 1 | cut -d= -f2"
            )
        )
        for app in ("docker", "containerd")
    ]
    assert ended[0] < ended[1]
    assert up.run("pgrep -f '[c]ontainerd-shim'").status == 1


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_docker_does_not_stay_stopped_after_containerd_has_died(up: Host, number: str) -> None:
    """for-linux#678"""
    before = containerd_pid(up)
    up.check(f"kill -{number} {before}")
    up.wait_until(f"new=$(pgrep -x containerd) && [ $new != {before} ]", timeout=20)
    up.wait_until("docker run --rm busybox /bin/busybox true", timeout=30)
    assert up.check("systemctl is-active docker.service").strip() == "active"


def test_the_group_is_there_before_the_socket(engine_host: Host) -> None:
    """bazzite-dx#102"""
    engine_host.check("systemctl stop docker.service docker.socket && groupdel docker && skim setup", timeout=120)
    assert engine_host.check("stat -c '%U %G %a' /run/docker.sock").strip() == "root docker 660"
    engine_host.check("systemctl start docker.service")


def test_pods_do_not_pile_up(up: Host) -> None:
    """bootkube#218"""
    before = up.check("ls /var/lib/rkt/pods/*").splitlines()
    for _ in range(3):
        up.check("systemctl reset-failed docker.service; systemctl restart docker.service")
    assert len(up.check("ls /var/lib/rkt/pods/*").splitlines()) == len(before)


def test_what_a_power_cut_left_half_prepared_is_removed_and_what_is_being_prepared_is_not(up: Host) -> None:
    left, busy = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    place = "/var/lib/rkt/pods/prepare"
    up.check(f"mkdir {place}/{left} {place}/{busy}")
    with up.popen(f"exec 9<{place}/{busy}; flock 9; echo held; exec sleep 4711", stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        up.check("systemctl reset-failed docker.service; systemctl restart docker.service")
        up.wait_until(f"[ ! -e {place}/{left} ]", timeout=20)
        assert up.check(f"ls {place}").split() == [busy]
        up.check("pkill -x -f 'sleep 4711'")
    up.check("systemctl start skim-collect.service")
    assert up.check(f"ls {place}") == ""


def test_gc_waits_for_nobody(up: Host) -> None:
    """rkt#2878: it blocked while a pod ran."""
    pid = dockerd_pid(up)
    up.check("rkt gc --grace-period=0s", timeout=20)
    assert dockerd_pid(up) == pid


def test_a_pod_of_several_apps_can_be_entered(up: Host) -> None:
    """rkt#2064, #2957"""
    uuid = up.check("cat /var/lib/skim/pod-uuid").strip()
    assert up.check(f"rkt enter --app=docker {uuid} docker --version").startswith("Docker version")
    assert "containerd" in up.check(f"rkt enter --app=containerd {uuid} containerd --version")


def test_a_container_keeps_its_device_through_daemon_reload_and_a_new_engine(up: Host) -> None:
    """nvidia-docker#1671"""
    up.write("/etc/docker/daemon.json", '{"live-restore": true}')
    try:
        up.check("systemctl reload docker.service")
        up.wait_until("docker info -f '{{.LiveRestoreEnabled}}' | grep true")
        up.check("docker run -d --name device --device /dev/null:/dev/given:rw busybox /bin/busybox sleep 1000")
        use = "docker exec device /bin/busybox dd if=/dev/zero of=/dev/given count=1"
        up.check(use)
        up.check("systemctl daemon-reload")
        up.check(use)
        up.check("systemctl restart docker.service")
        up.check(use)
    finally:
        up.check("docker rm -f device; rm /etc/docker/daemon.json; systemctl restart docker.service")


def test_a_change_of_the_pod_makes_systemd_reload_nothing(up: Host) -> None:
    """nvidia-docker#1671: what does not reload cannot take devices away."""
    up.check("systemctl reset-failed docker.service 2>/dev/null; journalctl --sync")
    since = up.check("date +%s.%N").strip()
    up.check("systemctl restart docker.service")
    up.check("systemctl stop docker.service docker.socket && systemctl start docker.service && journalctl --sync")
    assert up.check(f"journalctl _PID=1 --since @{since} -o cat --no-pager | grep -c Reloading; true").strip() == "0"
