"""Hosts that are a little different: what can be written, how it is mounted, and what is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.conftest import PRISTINE, take_up
from stock.marks import only_ours

STOP = "systemctl stop docker.service docker.socket containerd.service 2>/dev/null; ! systemctl is-active docker.service"
TRY = """\
docker run --rm busybox /bin/busybox true
docker rm -f web >/dev/null 2>&1; docker run -d --name web -p 8080:80 -v kept:/kept busybox /bin/busybox httpd -f -h /bin
n=0; until /bin/busybox wget -qO /dev/null http://127.0.0.1:8080/sh; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1; done
docker exec web /bin/busybox touch /kept/file && docker rm -f web && docker volume rm kept
"""
FILESYSTEMS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}
CLIENT = "/run/skim/docker/docker/usr/bin/docker"


def new_host(side: str, progress: cache.Progress) -> NspawnHost:
    flavour = image.FLAVOURS["debian12-people" + ("-stock" if side == "stock" else "")]
    return NspawnHost(flavour, prepare=appliance.install if side == "ours" else None, progress=progress)


def put_sources(root: Path) -> None:
    """A source tree in which everything has been built, at /opt/source."""
    source = root / "opt/source"
    for folder in ("host-units", "docker-wrapper"):
        shutil.copytree(appliance.ROOT / folder, source / folder)
    shutil.copytree(appliance.BUILD / "frozen/host", source / "build/frozen/host", symlinks=True)
    for path in appliance.BUILD.glob("*.aci"):
        shutil.copy(path, source / "build")


@pytest.fixture(scope="module")
def other_host(side: str, progress: cache.Progress) -> Iterator[NspawnHost]:
    """Docker of this side on it, enabled and up."""
    with new_host(side, progress) as host:
        host.boot()
        take_up(host, side)
        yield host


@pytest.fixture
def other(other_host: NspawnHost) -> NspawnHost:
    other_host.check(PRISTINE)
    return other_host


def test_docker_works_without_etc_docker(other: Host) -> None:
    other.check(f"{STOP}; rm -rf /etc/docker /etc/default/docker")
    other.check(f"systemctl start docker && {TRY}")
    assert other.run("ls /etc/docker/daemon.json").status != 0


def test_docker_works_with_run_mounted_noexec(other: Host) -> None:
    other.check("mount -o remount,noexec /run && cp /bin/true /run/program")
    try:
        assert other.run("/run/program").status == 126
        other.check(f"{STOP}; systemctl start docker; {TRY}")
        assert other.check("docker run --rm --init busybox /bin/busybox echo with init") == "with init\n"
        other.check("systemctl restart docker && docker version")
    finally:
        other.check("rm /run/program; mount -o remount,exec /run")


@only_ours("the distribution's plugins are other packages")
def test_plugins_are_found_with_run_mounted_noexec(other: Host) -> None:
    other.check("mount -o remount,noexec /run")
    try:
        assert "v2" in other.check("docker compose version") or other.check("docker compose version --short").strip()
    finally:
        other.check("mount -o remount,exec /run")


def test_docker_works_with_a_umask_of_077_for_its_services(other: Host) -> None:
    for unit in ("docker", "containerd"):
        other.write(f"/etc/systemd/system/{unit}.service.d/umask.conf", "[Service]\nUMask=0077\n")
    other.check("useradd --create-home --groups docker strict 2>/dev/null || usermod -aG docker strict")
    other.check(f"systemctl daemon-reload; {STOP}; systemctl start docker; {TRY}")
    command = "umask 077; docker run --rm --user 1000 busybox /bin/busybox cat /etc/hostname /etc/resolv.conf /etc/hosts"
    assert "localhost" in other.check(command, user="strict")
    other.check('mkdir -p /tmp/build && printf \'FROM busybox\\nRUN ["/bin/busybox", "touch", "/made"]\\n\' >/tmp/build/Dockerfile')
    other.check("umask 077; docker build -t built /tmp/build && docker run --rm --user 1000 built /bin/busybox ls /made")


@pytest.fixture
def disk(other: NspawnHost, request: pytest.FixtureRequest) -> Iterator[tuple[NspawnHost, str]]:
    """The host, and a directory on it that is a file system of its own of the wanted kind; Docker is stopped. Nothing is left of it."""
    kind = request.param
    where = f"/srv/{kind}"
    other.check(f"{STOP}; mkdir -p {where}")
    if kind == "overlay":
        other.check("cd /srv && mkdir -p upper work lower")
        other.check(f"mount -t overlay -o lowerdir=/srv/lower,upperdir=/srv/upper,workdir=/srv/work x {where}")
    else:
        file = other.folder / f"{kind}.image"
        with file.open("wb") as image_file:
            image_file.truncate(2 << 30)
        subprocess.run([*FILESYSTEMS[kind], os.fspath(file)], check=True, capture_output=True)
        device = subprocess.run(["losetup", "--find", "--show", os.fspath(file)], check=True, capture_output=True, text=True).stdout.strip()
        try:
            number = os.minor(os.stat(device).st_rdev)
            other.check(f"[ -e {device} ] || mknod {device} b 7 {number}; mount -t {kind} {device} {where}")
        finally:  # from now on it goes with the mount, however that ends
            subprocess.run(["losetup", "--detach", device], check=True)
    yield other, where
    other.check(f"{STOP}; rm -f /etc/docker/daemon.json; umount {where}; rm -rf /srv/upper /srv/work /srv/lower")
    if kind != "overlay":
        (other.folder / f"{kind}.image").unlink()


def load_and_try(host: Host, driver: str) -> None:
    """Images, containers and volumes there, still there after a restart."""
    host.check("systemctl start docker")
    assert host.check("docker info -f '{{.Driver}}'").strip() == driver
    host.check("tar -C /tmp/image -c . | docker import - busybox")
    host.check(f"docker run -d --name stays --restart always busybox /bin/busybox sleep 100000; {TRY}")
    host.check(f"systemctl restart docker && docker exec stays /bin/busybox true; {TRY}")
    host.check("docker rm -f stays")


@pytest.mark.parametrize("disk", [*FILESYSTEMS, "overlay"], indirect=True, ids=str)
def test_the_data_directory_may_be_on_another_disk(disk: tuple[NspawnHost, str], side: str) -> None:
    host, where = disk
    kind = where.rpartition("/")[2]
    host.write("/etc/docker/daemon.json", f'{{"data-root": "{where}/docker"}}')
    # Docker 20.10 prefers btrfs's own snapshots; later ones do not. An overlay cannot be the upper layer of another.
    driver = {"overlay": "vfs", "btrfs": "btrfs" if side == "stock" else "overlay2"}.get(kind, "overlay2")
    load_and_try(host, driver)


@only_ours("it has no such directory")
@pytest.mark.parametrize("disk", ["btrfs", "overlay"], indirect=True, ids=str)
def test_all_of_var_lib_may_be_on_another_disk(disk: tuple[NspawnHost, str]) -> None:
    host, where = disk
    host.check(f"cp -a /var/lib/skim {where} && mkdir {where}/rkt {where}/docker")
    host.check(f"for part in skim rkt docker; do mount --bind {where}/$part /var/lib/$part; done")
    try:
        host.check("skim setup", timeout=300)
        load_and_try(host, "vfs" if where.endswith("overlay") else "overlay2")
        host.check(STOP)
        host.wait_until('[ -z "$(ls /var/lib/rkt/pods/*)" ] || ! ls -d /var/lib/rkt/pods/*/*')
    finally:
        host.check(f"{STOP}; systemctl stop 'run-skim-*.mount'; umount /var/lib/skim /var/lib/rkt /var/lib/docker")
        host.check("skim setup", timeout=300)


def test_docker_is_up_after_a_boot_without_network(side: str, progress: cache.Progress) -> None:
    with new_host(side, progress) as host:
        host.boot()
        take_up(host, side)
        host.check(PRISTINE)
        host.check("docker run -d --name web --restart always -p 8080:80 busybox /bin/busybox httpd -f -h /bin")
        host.write("/etc/systemd/network/50-host.network", "[Match]\nName=host0\n\n[Network]\nDHCP=yes\n")
        wait = "/lib/systemd/systemd-networkd-wait-online --interface=host0 --timeout=3"
        host.write("/etc/systemd/system/systemd-networkd-wait-online.service.d/soon.conf", f"[Service]\nExecStart=\nExecStart={wait}\n")
        host.check("systemctl daemon-reload; systemctl enable systemd-networkd.service systemd-networkd-wait-online.service")
        host.reboot()
        assert host.run("systemctl is-active systemd-networkd-wait-online").stdout == "failed\n"
        host.check("systemctl is-active docker.service")
        host.wait_until("/bin/busybox wget -qO /dev/null http://127.0.0.1:8080/sh")
        # It waited for the network to be up or given up, and no longer.
        times = host.check(
            "systemctl show --value -p ActiveEnterTimestampMonotonic network-online.target;"
            "systemctl show --value -p InactiveExitTimestampMonotonic docker.service"
        ).split()
        assert 0 < int(times[0]) <= int(times[1])


# Before anything has a file open for writing.
SEAL = """\
[Unit]
DefaultDependencies=no
Before=systemd-journald.service sysinit.target

[Service]
Type=oneshot
ExecStart=/bin/sh -ec 'for place in /etc /opt /var /root /home /tmp; do mount --bind $$place $$place; done'
ExecStart=mount -o remount,bind,ro /usr
ExecStart=mount -o remount,bind,ro /

[Install]
WantedBy=sysinit.target
"""


def seal(root: Path) -> None:
    """Let nothing be written but below /etc, /opt, /var and where users are."""
    (root / "etc/systemd/system/seal.service").write_text(SEAL)
    (root / "etc/systemd/system/sysinit.target.wants").mkdir(exist_ok=True)
    (root / "etc/systemd/system/sysinit.target.wants/seal.service").symlink_to("../seal.service")


def test_docker_works_where_only_etc_opt_and_var_can_be_written(side: str, progress: cache.Progress) -> None:
    flavour = image.FLAVOURS["debian12-people" + ("-stock" if side == "stock" else "")]

    def prepare(root: Path) -> None:
        seal(root)
        if side == "ours":
            put_sources(root)

    with NspawnHost(flavour, prepare=prepare, progress=progress) as host:
        host.boot()
        for place in ("/usr/local/bin/x", "/x", "/srv/x"):
            assert "Read-only file system" in host.run(["touch", place]).stderr
        host.check("groupadd docker 2>/dev/null; useradd --groups docker member")
        path = {"PATH": "/opt/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        if side == "ours":
            installed = host.check("cd /opt/source && umask 077 && sh host-units/install.sh install", timeout=300)
            assert "cliPluginsExtraDirs" in installed
            assert host.check("readlink /opt/bin/docker /opt/bin/skim") == f"{CLIENT}\n/opt/skim/bin/skim\n"
            host.check("systemctl start docker")
        else:
            take_up(host, side)
        host.check(PRISTINE, environment=path)
        host.check(TRY, environment=path)
        host.check("docker run --rm busybox /bin/busybox true", environment=path, user="member")
        if side == "ours":
            host.check("cd /opt/source && sh host-units/install.sh uninstall")
            assert host.check("ls -A /opt /etc/systemd/system.attached 2>/dev/null | grep -vx containerd; true").split() == [
                "/opt:",
                "source",
            ]


@only_ours("how a package is installed is the distribution's")
def test_an_install_under_umask_077_is_for_everybody(progress: cache.Progress) -> None:
    with NspawnHost(image.FLAVOURS["debian12-people"], prepare=put_sources, progress=progress) as host:
        host.boot()
        host.check("umask 077 && cd /opt/source && sh host-units/install.sh install && umask 077 && skim setup", timeout=300)
        host.check("systemctl start docker && useradd --create-home --groups docker member && useradd --create-home other")
        host.check(PRISTINE)
        assert host.check("docker run --rm busybox /bin/busybox id -u", user="member").strip() == "0"
        assert host.check("docker compose version", user="member").startswith("Docker Compose")
        for command in ("docker --version", "skim status", "docker compose version", "docker context ls"):
            host.check(command, user="other")
        host.check("systemctl stop docker docker.socket")
        for command in ("docker --version", "skim status"):
            host.check(command, user="other")
