"""`skim doctor`: what is wrong with a host, and what to do."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import appliance
from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.marks import only_ours

pytestmark = only_ours("stock has no such command")

# All files but what runs on writes by itself: the journal, and the clock of a timer.
SNAPSHOT = r"""
find / \( -path /proc -o -path /sys -o -path /dev -o -path /run/log -o -path /var/log/journal -o -path /run/systemd/journal \
    -o -path /run/systemd/units -o -path /run/systemd/timers \) -prune -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\n' 2>/dev/null | sort
cat /proc/self/mountinfo
systemctl list-units --all --plain --no-legend
systemctl list-unit-files --no-legend
cat /proc/modules 2>/dev/null
cat /proc/net/ip_tables_names
nft list ruleset
"""


class Doctor:
    """`skim doctor --json` on a host, by the identifiers of its checks."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def look(self, **arguments: Any) -> dict[str, dict[str, str]]:
        done = self.host.run("skim doctor --json", **arguments)
        assert done.stderr == "", done.stderr
        document = json.loads(done.stdout)
        assert done.status == (0 if document["ok"] else 1), done.stdout
        return {check["id"]: check for check in document["checks"]}


@pytest.fixture
def doctor(ours: Host) -> Doctor:
    return Doctor(ours)


def test_a_healthy_host_has_no_finding_that_matters(doctor: Doctor) -> None:
    found = doctor.look()
    assert {check["status"] for check in found.values()} <= {"ok", "note"}, found
    for name in ("engine.images", "engine.mounts", "engine.docker", "units.running", "access.socket", "kernel.overlay", "storage.driver"):
        assert found[name]["status"] == "ok", found[name]


def test_the_table_is_for_people_and_ends_in_a_summary(ours: Host) -> None:
    done = ours.run("skim doctor")
    lines = done.stdout.splitlines()
    assert (done.status, done.stderr) == (0, "")
    assert "Storage" in lines and "  ok       the group docker is there" in lines
    assert lines[-1].startswith("nothing is wrong: ")
    assert "\x1b" not in done.stdout
    for line, following in itertools.pairwise(lines):
        if line.startswith(("  note", "  warning", "  error")):
            assert following.startswith("           do: "), line


def test_colours_are_for_a_terminal(ours: Host) -> None:
    with ours.terminal("skim doctor", columns=200) as terminal:
        terminal.expect("nothing is wrong: ")
        assert "\x1b[32mok" in terminal.transcript


def test_programs_get_each_finding_with_what_to_do(ours: Host) -> None:
    document = json.loads(ours.run("skim doctor --json").stdout)
    assert document["ok"] is True
    assert sum(document["counts"].values()) == len(document["checks"])
    for check in document["checks"]:
        assert set(check) == {"id", "group", "status", "what", "do"}
        assert bool(check["do"]) == (check["status"] != "ok"), check
        assert check["id"].startswith(check["group"] + ".")
    names = [check["id"] for check in document["checks"]]
    assert len(names) == len(set(names))


def test_unsigned_images_are_told_of_truthfully(doctor: Doctor) -> None:
    found = doctor.look()["engine.signatures"]
    assert found["status"] == "note" and "not signed" in found["what"]


class Ill(NamedTuple):
    """A host that is broken, the finding that has to show it (words of `what` and of `do`), and the way back."""

    name: str
    harm: str
    id: str
    status: str
    what: str
    do: str
    mend: str
    environment: dict[str, str] | None = None


def _daemon_json(name: str, text: str, found: str, status: str, what: str, do: str, options: str = "") -> Ill:
    """A daemon.json, and DOCKER_OPTS, as they lie on the disk: the running daemon has not read them."""
    harm = f"mkdir -p /etc/docker; cat >/etc/docker/daemon.json <<'END'\n{text}\nEND\necho 'DOCKER_OPTS={options}' >/etc/default/docker"
    return Ill(name, harm, found, status, what, do, "rm -r /etc/docker/daemon.json /etc/default/docker")


_FAKE_UNIT = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
_DROP_IN = "/etc/systemd/system/docker.service.d/50-test.conf"
_NO_DROP_IN = "rm -r /etc/systemd/system/docker.service.d; systemctl daemon-reload"
_SMALL = 'mkdir -p /mnt/small /etc/docker; echo \'{"data-root": "/mnt/small"}\' >/etc/docker/daemon.json; '
_NOT_SMALL = "umount /mnt/small; rm /etc/docker/daemon.json"
_EXITED = (
    "rkt --insecure-options=image run --uuid-file-save=/tmp/uuid /opt/skim/images/containerd.aci --exec /usr/bin/containerd -- --version; "
    "rkt list | grep -q exited"
)
_OTHER = "mkdir -p /tmp/other && cp /bin/busybox /tmp/other/dockerd && systemd-run -q --unit=other-dockerd bash -c "

ILLS = [
    Ill(
        "docker.service is masked",
        "systemctl mask docker.service",
        "units.docker-service-file",
        "error",
        "masked",
        "systemctl unmask docker.service",
        "systemctl unmask docker.service",
    ),
    Ill(
        "somebody's docker.service stands in front",
        f"printf '{_FAKE_UNIT}' >/etc/systemd/system/docker.service; systemctl daemon-reload",
        "units.docker-service-file",
        "error",
        "/etc/systemd/system/docker.service is not the appliance's",
        "move /etc/systemd/system/docker.service away",
        "rm /etc/systemd/system/docker.service; systemctl daemon-reload",
    ),
    Ill(
        "a drop-in starts another Docker",
        f"mkdir -p {_DROP_IN}.d && rmdir {_DROP_IN}.d; printf '[Service]\\nExecStart=\\nExecStart=/bin/busybox dockerd\\n' >{_DROP_IN}; "
        "systemctl daemon-reload",
        "units.command",
        "error",
        f"{_DROP_IN} has docker.service run /bin/busybox",
        "/opt/skim/bin/dockerd",
        _NO_DROP_IN,
    ),
    Ill(
        "a drop-in that systemd has not read",
        f"mkdir -p {_DROP_IN}.d && rmdir {_DROP_IN}.d; printf '[Service]\\nEnvironment=A=b\\n' >{_DROP_IN}",
        "units.reload",
        "warning",
        "systemd has not read it",
        "systemctl daemon-reload",
        _NO_DROP_IN,
    ),
    Ill(
        "a drop-in",
        f"mkdir -p {_DROP_IN}.d && rmdir {_DROP_IN}.d; printf '[Service]\\nEnvironment=A=b\\n' >{_DROP_IN}; systemctl daemon-reload",
        "units.drop-ins",
        "note",
        _DROP_IN,
        "systemctl cat docker",
        _NO_DROP_IN,
    ),
    Ill(
        "docker.service is disabled",
        "systemctl disable docker.service",
        "units.enabled",
        "warning",
        "do not come back after a boot",
        "systemctl enable docker.service",
        "systemctl enable docker.service",
    ),
    Ill(
        "docker.service has failed",
        "mkdir -p /etc/docker; echo '{' >/etc/docker/daemon.json; systemctl restart docker; "
        "until systemctl is-failed --quiet docker; do sleep 0.1; done",
        "units.running",
        "error",
        "docker.service has failed",
        "journalctl -u docker",
        "rm /etc/docker/daemon.json; systemctl reset-failed docker.service docker.socket; systemctl start docker",
    ),
    Ill(
        "somebody's containerd.service is enabled",
        f"printf '{_FAKE_UNIT}' >/etc/systemd/system/containerd.service; systemctl enable containerd",
        "units.containerd",
        "error",
        "which of the two runs after a boot is chance",
        "systemctl disable --now containerd",
        "systemctl disable --now containerd; rm /etc/systemd/system/containerd.service; systemctl daemon-reload",
    ),
    Ill(
        "a dockerd runs outside the pod",
        _OTHER + "'exec -a sleep /tmp/other/dockerd 1000' && until pgrep -f /tmp/other/dockerd >/dev/null; do sleep 0.05; done",
        "host.other-dockerd",
        "error",
        "outside the docker pod",
        "stop its unit",
        "systemctl stop other-dockerd; rm -r /tmp/other",
    ),
    Ill(
        "another docker comes first on PATH",
        "mkdir -p /tmp/first; cp /bin/busybox /tmp/first/docker",
        "host.command",
        "warning",
        "/tmp/first/docker comes before",
        "remove /tmp/first/docker",
        "rm -r /tmp/first",
        {"PATH": "/tmp/first:/usr/local/bin:/usr/bin:/bin:/usr/sbin"},
    ),
    Ill(
        "the group docker is missing",
        "cp /etc/group /tmp/group; sed -i '/^docker:/d' /etc/group",
        "access.group",
        "error",
        "docker.socket does not start",
        "systemd-sysusers",
        "cat /tmp/group >/etc/group",
    ),
    Ill(
        "the socket is of another group",
        "chgrp root /run/docker.sock",
        "access.socket",
        "warning",
        "0660 root:root, not of the group docker",
        "chgrp docker /run/docker.sock",
        "chgrp docker /run/docker.sock",
    ),
    Ill(
        "the socket is open to everybody",
        "chmod 666 /run/docker.sock",
        "access.socket",
        "error",
        "everybody on this host may become root",
        "chmod 0660 /run/docker.sock",
        "chmod 0660 /run/docker.sock",
    ),
    Ill(
        "the socket was removed",
        "rm /run/docker.sock",
        "access.socket",
        "error",
        "/run/docker.sock is missing",
        "systemctl restart docker.socket docker.service",
        "systemctl restart docker.socket docker.service",
    ),
    Ill(
        "a directory is in the socket's place",
        "systemctl stop docker.service docker.socket; rm -f /run/docker.sock; mkdir /run/docker.sock",
        "access.socket",
        "error",
        "is a directory",
        "rmdir /run/docker.sock",
        "rmdir /run/docker.sock; systemctl start docker.socket docker.service",
    ),
    _daemon_json(
        "daemon.json is no JSON",
        '{\n  "debug": true,\n}',
        "daemon-json.syntax",
        "error",
        "line 3, column 1: a comma before }",
        "correct it",
    ),
    _daemon_json(
        "daemon.json has a key twice", '{"debug": true, "debug": false}', "daemon-json.twice", "warning", "debug more than once", "into one"
    ),
    _daemon_json(
        "daemon.json has a key that dockerd does not know",
        '{"data-rot": "/x"}',
        "daemon-json.valid",
        "error",
        "data-rot",
        "dockerd --validate",
    ),
    _daemon_json(
        "daemon.json says what a flag says",
        '{"labels": ["a=b"]}',
        "daemon-json.conflict",
        "error",
        "labels: both in /etc/docker/daemon.json and among the flags",
        "/etc/default/docker",
        "--label=c=d",
    ),
    _daemon_json(
        "daemon.json and a flag say where to listen",
        '{"hosts": ["fd://"]}',
        "daemon-json.hosts",
        "error",
        "-H tcp://127.0.0.1:2375",
        "take it out of one of them",
        "-H tcp://127.0.0.1:2375",
    ),
    _daemon_json(
        "dockerd is open to the network",
        '{"hosts": ["fd://", "tcp://0.0.0.0:2375"]}',
        "daemon-json.hosts",
        "warning",
        "without tlsverify",
        "tlsverify",
    ),
    _daemon_json(
        "a cgroup driver that there is not",
        '{"exec-opts": ["native.cgroupdriver=system"]}',
        "cgroups.driver",
        "error",
        "native.cgroupdriver=system is no driver",
        "systemd, cgroupfs",
    ),
    _daemon_json(
        "a storage driver that is gone", '{"storage-driver": "aufs"}', "storage.driver", "error", "aufs went with Docker 24", "docker save"
    ),
    Ill(
        "the data root is full",
        _SMALL + "mount -t tmpfs -o size=70m small /mnt/small; head -c 20M /dev/zero >/mnt/small/filled",
        "space.docker",
        "error",
        "/mnt/small: 50 MiB of 70 MiB free",
        "docker system prune",
        _NOT_SMALL,
    ),
    Ill(
        "the data root has no inodes left",
        _SMALL + "mount -t tmpfs -o size=2g,nr_inodes=20 small /mnt/small",
        "space.docker-files",
        "error",
        "more files (inodes)",
        "docker system prune",
        _NOT_SMALL,
    ),
    Ill(
        "the data root is an overlay",
        _SMALL + "mkdir -p /var/tmp/o/u /var/tmp/o/w /var/tmp/o/l; "
        "mount -t overlay -o lowerdir=/var/tmp/o/l,upperdir=/var/tmp/o/u,workdir=/var/tmp/o/w over /mnt/small",
        "storage.data-root",
        "warning",
        "an overlay cannot lie on another: dockerd falls back to the storage driver vfs",
        "put the data root on ext4, xfs or btrfs",
        _NOT_SMALL + "; rm -r /var/tmp/o",
    ),
    Ill(
        "the data root is read-only",
        _SMALL + "mount -t tmpfs -o ro small /mnt/small",
        "storage.data-root",
        "error",
        "read-only",
        "mount /mnt/small writable",
        _NOT_SMALL,
    ),
    Ill(
        "the data root has images of two storage drivers",
        "mkdir -p /var/lib/docker/btrfs/subvolumes",
        "storage.driver",
        "error",
        "/var/lib/docker has images of btrfs and overlay2",
        'set "storage-driver"',
        "rm -r /var/lib/docker/btrfs",
    ),
    Ill(
        "the engine is not mounted",
        "systemctl stop run-skim-engine-docker.mount",
        "engine.mounts",
        "error",
        "not mounted: /run/skim/engine/docker",
        "skim setup",
        "skim setup",
    ),
    Ill(
        "a library mount is down",
        "systemctl stop 'run-skim-lib-*.mount'",
        "engine.mounts",
        "error",
        "/run/skim/lib/",
        "skim setup",
        "skim setup && systemctl restart docker",
    ),
    Ill(
        "something else is mounted in the engine's place",
        "systemctl stop run-skim-engine-containerd.mount && mount --bind /var/tmp /run/skim/engine/containerd",
        "engine.mounts",
        "error",
        "from elsewhere than the engine's tree: /run/skim/engine/containerd",
        "skim setup",
        "umount /run/skim/engine/containerd && skim setup",
    ),
    Ill(
        "an image of the engine is gone from the store",
        ". /var/lib/skim/engine.env; mv /var/lib/rkt/cas/tree/$DOCKER_TREE/rendered /var/lib/rkt/cas/tree/$DOCKER_TREE/gone",
        "engine.images",
        "error",
        "not unpacked: skim/docker",
        "skim setup",
        ". /var/lib/skim/engine.env; mv /var/lib/rkt/cas/tree/$DOCKER_TREE/gone /var/lib/rkt/cas/tree/$DOCKER_TREE/rendered",
    ),
    Ill(
        "the record of the engine is gone",
        "mv /var/lib/skim/engine.env /tmp/engine.env",
        "engine.record",
        "error",
        "no engine is set up any more",
        "skim setup",
        "mv /tmp/engine.env /var/lib/skim/engine.env",
    ),
    Ill(
        "the record of the engine is damaged",
        "cp -p /var/lib/skim/engine.env /tmp/engine.env; echo nonsense >/var/lib/skim/engine.env",
        "engine.record",
        "error",
        "engine.env is damaged",
        "skim setup",
        "mv /tmp/engine.env /var/lib/skim/engine.env",
    ),
    Ill(
        "docker.conf is wrong",
        "cp -p /etc/skim/docker.conf /tmp/docker.conf; echo 'KERNEL=/x' >>/etc/skim/docker.conf",
        "engine.configuration",
        "warning",
        "/etc/skim/docker.conf: line ",
        "correct the file",
        "mv /tmp/docker.conf /etc/skim/docker.conf",
    ),
    Ill(
        "the way to the client is gone",
        "mv -T /run/skim/docker /run/skim/astray",
        "engine.client",
        "error",
        "`docker` finds no client",
        "skim setup",
        "mv -T /run/skim/astray /run/skim/docker",
    ),
    Ill("a pod that has ended is left", _EXITED, "pods.left", "note", "(exited)", "rkt gc --grace-period=0s", "rkt rm $(cat /tmp/uuid)"),
    Ill(
        "a docker pod that has ended is left",
        _EXITED + " && touch /var/lib/skim/old/$(cat /tmp/uuid)",
        "pods.docker",
        "warning",
        "(exited)",
        "systemctl start skim-collect",
        "systemctl start skim-collect",
    ),
    Ill(
        "a pod was never finished",
        "mkdir -p /var/lib/rkt/pods/prepare/11111111-1111-4111-8111-111111111111",
        "pods.left",
        "note",
        "11111111-1111-4111-8111-111111111111 (aborted prepare)",
        "rkt gc",
        "rmdir /var/lib/rkt/pods/prepare/11111111-1111-4111-8111-111111111111",
    ),
    Ill(
        "/run is noexec",
        "mount -o remount,noexec /run",
        "host.run-noexec",
        "note",
        "/run is mounted noexec",
        "mount -o remount,exec /run",
        "mount -o remount,exec /run",
    ),
    Ill(
        "iptables is not installed",
        "mv /usr/sbin/iptables /usr/sbin/iptables.away",
        "host.iptables",
        "error",
        "iptables is not on this host",
        "install the package iptables",
        "mv /usr/sbin/iptables.away /usr/sbin/iptables",
    ),
    Ill(
        "IP forwarding was turned off",
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
        "host.forwarding",
        "warning",
        "IP forwarding is off",
        "sysctl -w net.ipv4.ip_forward=1",
        "echo 1 >/proc/sys/net/ipv4/ip_forward",
    ),
    Ill(
        "DOCKER_HOST leads elsewhere",
        ":",
        "access.client",
        "note",
        "DOCKER_HOST=tcp://elsewhere:2375 is set",
        "nothing, if that is meant",
        ":",
        {"DOCKER_HOST": "tcp://elsewhere:2375"},
    ),
]


@pytest.fixture(scope="module")
def well(ours: Host) -> dict[str, str]:
    """Statuses of the host as it was before anything was broken."""
    return {name: check["status"] for name, check in Doctor(ours).look().items()}


@pytest.mark.parametrize("ill", ILLS, ids=lambda ill: ill.name)
def test_it_finds_and_says_what_to_do(doctor: Doctor, well: dict[str, str], ill: Ill) -> None:
    assert well.get(ill.id, "ok") == "ok"
    try:
        doctor.host.check(ill.harm)
        found = doctor.look(environment=ill.environment)[ill.id]
        assert (found["status"], ill.what in found["what"], ill.do in found["do"]) == (ill.status, True, True), found
    finally:
        doctor.host.check(ill.mend)
    assert {name: check["status"] for name, check in doctor.look().items()} == well


def test_docker_runs_on_where_run_is_noexec(doctor: Doctor) -> None:
    doctor.host.check("mount -o remount,noexec /run")
    try:
        assert doctor.look()["engine.docker"]["status"] == "ok"
        assert doctor.host.check("docker info --format '{{.Driver}}'").strip() == "overlay2"
    finally:
        doctor.host.check("mount -o remount,exec /run")


def test_hosts_in_daemon_json_beside_the_unit_s_own_is_no_conflict(doctor: Doctor) -> None:
    doctor.host.write("/etc/docker/daemon.json", '{"hosts": ["fd://"]}')
    try:
        found = doctor.look()
        assert (found["daemon-json.hosts"]["status"], found["daemon-json.valid"]["status"]) == ("ok", "ok")
    finally:
        doctor.host.check("rm /etc/docker/daemon.json")


def test_it_changes_nothing(ours: Host) -> None:
    ours.check("systemctl stop docker.service")  # the socket stays, and nothing of the doctor's may wake Docker by it
    ours.write("/etc/docker/daemon.json", '{"debug": true}')
    try:
        before = ours.check(SNAPSHOT)
        ours.check("skim doctor")
        ours.check("skim doctor --json")
        ours.run("skim doctor", user="nobody")
        assert ours.check(SNAPSHOT).splitlines() == before.splitlines()
        assert ours.run("systemctl is-active docker.service").stdout.strip() == "inactive"
    finally:
        ours.check("rm /etc/docker/daemon.json && systemctl start docker.service")


def test_an_ordinary_user_is_told_what_could_not_be_looked_at(doctor: Doctor) -> None:
    found = doctor.look(user="nobody")
    assert "you may not use Docker" in found["access.you"]["what"]
    for name in ("engine.images", "pods.left", "storage.driver"):
        assert found[name]["status"] == "note" and "not looked at" in found[name]["what"], found[name]
        assert "as root" in found[name]["do"]
    for name in ("engine.mounts", "engine.docker", "units.running", "kernel.overlay", "space.docker"):
        assert found[name]["status"] == "ok", found[name]


def test_wrong_arguments_are_one_line(ours: Host) -> None:
    done = ours.run("skim doctor --loud")
    assert done.status == 254 and done.stderr.count("\n") == 1 and "skim --help" in done.stderr


@pytest.fixture
def installed(progress: cache.Progress) -> Iterator[Host]:
    """A host with the appliance's files, and no setup yet."""
    with NspawnHost(image.FLAVOURS["debian12-people"], prepare=appliance.install, progress=progress) as host:
        host.boot()
        host.run("systemctl is-system-running --wait")
        yield host


def test_a_user_of_a_host_without_d_bus_is_told_by_the_files(progress: cache.Progress) -> None:
    with NspawnHost(image.DEBIAN12, prepare=appliance.install, progress=progress) as host:
        host.boot()
        host.write("/etc/default/docker", "DOCKER_OPTS=debug\n")
        found = Doctor(host).look(user="nobody")
        assert found["units.state"]["status"] == "note" and "as root" in found["units.state"]["do"]
        assert found["units.command"]["status"] == "ok" and found["daemon-json.arguments"]["status"] == "error"


def test_before_setup_it_says_so_and_makes_nothing(installed: Host) -> None:
    before = installed.check(SNAPSHOT)
    found = Doctor(installed).look()
    assert found["engine.record"]["status"] == "warning" and "skim setup" in found["engine.record"]["do"]
    assert "skim setup" in found["units.enabled"]["do"]
    assert not [check for check in found.values() if check["status"] == "error"]
    assert installed.check(SNAPSHOT).splitlines() == before.splitlines()
    assert installed.run("skim doctor", user="nobody").status == 0


def test_between_setup_and_the_first_start_nothing_is_wrong(installed: Host) -> None:
    installed.check("skim setup", timeout=300)
    found = Doctor(installed).look()
    assert found["units.running"]["status"] == "note" and "systemctl start docker" in found["units.running"]["do"]
    assert {check["status"] for check in found.values()} <= {"ok", "note"}, found


def test_beside_a_running_docker_of_the_distribution_it_says_what_is_in_the_way(progress: cache.Progress) -> None:
    with NspawnHost(image.FLAVOURS["debian12-people-stock"], progress=progress, prepare=appliance.install) as host:
        host.boot()
        host.check("mv /etc/systemd/system.attached /tmp/attached && systemctl daemon-reload && systemctl start containerd docker")
        host.check("mv /tmp/attached /etc/systemd/system.attached && systemctl daemon-reload")
        found = Doctor(host).look()
        assert found["host.other-dockerd"]["status"] == "warning" and "/usr/sbin/dockerd" in found["host.other-dockerd"]["what"]
        assert "/usr/bin/docker" in found["host.packages"]["what"]
        assert found["units.containerd"]["status"] == "note"
        assert found["host.command"]["status"] == "ok"
