"""Hosts that are really broken, one way each, for `skim doctor`."""

from __future__ import annotations

from typing import NamedTuple


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
        f"mkdir -p $(dirname {_DROP_IN}); printf '[Service]\\nExecStart=\\nExecStart=/bin/busybox dockerd\\n' >{_DROP_IN}; "
        "systemctl daemon-reload",
        "units.command",
        "error",
        f"{_DROP_IN} has docker.service run /bin/busybox",
        "/opt/skim/bin/dockerd",
        _NO_DROP_IN,
    ),
    Ill(
        "a drop-in that systemd has not read",
        f"mkdir -p $(dirname {_DROP_IN}); printf '[Service]\\nEnvironment=A=b\\n' >{_DROP_IN}",
        "units.reload",
        "warning",
        "systemd has not read it",
        "systemctl daemon-reload",
        _NO_DROP_IN,
    ),
    Ill(
        "a drop-in",
        f"mkdir -p $(dirname {_DROP_IN}); printf '[Service]\\nEnvironment=A=b\\n' >{_DROP_IN}; systemctl daemon-reload",
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
