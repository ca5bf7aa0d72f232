"""What several tests of the comparison do on a host."""

from __future__ import annotations

from hosts.host import Host

DROP_IN = "/etc/systemd/system/docker.service.d/test.conf"
COUNTER = "n=0; while :; do n=$((n + 1)); echo $n; /bin/busybox sleep 0.05; done"


def stop_docker(host: Host) -> None:
    """The service and what would start it again; starts before this do not count for the limit of the next."""
    host.check(
        "systemctl stop docker.service docker.socket; systemctl reset-failed docker.service docker.socket 2>/dev/null; true", timeout=200
    )


def wait_for_docker(host: Host) -> None:
    host.check("systemctl start docker.service")
    host.wait_until("docker info >/dev/null", timeout=20)


def drop_in(host: Host, text: str) -> None:
    """Written and read by systemd; the next test removes it."""
    host.write(DROP_IN, text)
    host.check("systemctl daemon-reload; systemctl reset-failed docker.service 2>/dev/null; true")


def property_of(host: Host, unit: str, name: str) -> str:
    return host.check(["systemctl", "show", "--value", "-p", name, unit]).strip()


def main_pid(host: Host) -> int:
    return int(property_of(host, "docker.service", "MainPID"))


def dockerd_pid(host: Host) -> int:
    return int(host.check("cat /run/docker.pid"))


def containerd_pid(host: Host) -> int:
    return int(host.check("pgrep -x containerd"))
