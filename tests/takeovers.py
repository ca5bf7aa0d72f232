"""What tests of installing need: a host with a running Docker of Debian's, the source tree as it was built, and all of a host's files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import appliance
from docker_behaviour import MAKE_BUSYBOX
from hosts import cache, image
from hosts.host import Completed, Host
from hosts.nspawn import NspawnHost

SOURCE = "/root/source"
INSTALL = f"cd {SOURCE} && sh host-units/install.sh install"
UNINSTALL = f"cd {SOURCE} && sh host-units/install.sh uninstall"
UNITS = ("docker.service", "docker.socket", "containerd.service")
# What a Docker that runs changes, whosever it is: its data, logs, and what lies in memory. And the source tree.
_NOT_COMPARED = ("/var/lib/docker", "/var/lib/containerd", "/var/log", "/run", "/tmp", "/proc", "/sys", "/dev", SOURCE)


def put_source(root: Path) -> None:
    """A source tree in which everything has been built."""
    top = root / SOURCE.lstrip("/")
    for name in ("host-units", "docker-wrapper"):
        shutil.copytree(appliance.ROOT / name, top / name)
    shutil.copytree(appliance.BUILD / "frozen/host", top / "build/frozen/host", symlinks=True)
    for name in ("stage1-skim", "containerd", "docker"):
        shutil.copy(appliance.BUILD / f"{name}.aci", top / "build")


@contextmanager
def stock_host(progress: cache.Progress) -> Iterator[Host]:
    """Docker of Debian 12, enabled and running, as after `apt install docker.io`; `busybox` is among its images."""
    with NspawnHost(image.FLAVOURS["debian12-people-stock"], prepare=put_source, progress=progress) as host:
        host.boot()
        host.check(f"systemctl enable --now {' '.join(UNITS)}", timeout=300)
        host.check(MAKE_BUSYBOX)
        yield host


def manifest(host: Host) -> dict[str, str]:
    """Every file: kind, mode, owner, and content or target."""
    pruned = " -o ".join(f"-path {path}" for path in _NOT_COMPARED)
    listed = host.check(f"find / /usr -xdev \\( {pruned} \\) -prune -o -printf '%p\\t%y %m %U %G %l\\n'")
    sums = host.check(f"find / /usr -xdev \\( {pruned} \\) -prune -o -type f -print0 | xargs -0 sha256sum")
    contents = {line[66:]: line[:64] for line in sums.splitlines()}
    found = {}
    for line in listed.splitlines():
        path, _, what = line.partition("\t")
        found[path] = f"{what} {contents.get(path, '')}"
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Paths that are new (+), gone (-) or changed (~)."""
    lines = [f"+ {path}" for path in after.keys() - before.keys()] + [f"- {path}" for path in before.keys() - after.keys()]
    return sorted(
        lines + [f"~ {path}: {before[path]} -> {after[path]}" for path in before.keys() & after.keys() if before[path] != after[path]]
    )


def states(host: Host) -> list[str]:
    """Of the three units: enabled or not, active or not."""
    enabled, active = (host.run(["systemctl", verb, *UNITS]).stdout.split() for verb in ("is-enabled", "is-active"))
    return enabled + active


def server(host: Host) -> str:
    return host.check("docker version -f '{{.Server.Version}}'").strip()


def install(host: Host) -> Completed:
    done = host.run(INSTALL, timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    return done


def uninstall(host: Host) -> Completed:
    done = host.run(UNINSTALL, timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    return done
