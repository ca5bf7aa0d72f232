"""Boot a host, install the appliance on it, start Docker, and show, labelled, that everything is where it should be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import appliance
from appc.image import parse_image_manifest
from hosts.host import Host, HostError
from hosts.image import BuildError
from hosts.nspawn import NspawnHost, lacking
from hosts.sources import NoMirror

ROOT = Path(__file__).parents[2]
GREETING = "hello from a container of a Docker that no package of this host brought"
IMPORT_BUSYBOX = "mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && tar -C /tmp/image -c . | docker import - busybox"
# A client that waits for events can be asked what program it is, once the shell's child has become it.
WHERE_CLIENT = """\
docker events & pid=$!
tries=0
while [ "$(cat /proc/$pid/comm)" != docker ] || [ "$(readlink /proc/$pid/exe)" = "$(readlink -f /bin/sh)" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || break
    sleep 0.05
done
readlink /proc/$pid/exe; kill $pid
"""


class NotShown(Exception):
    """Something that the demonstration promises did not hold."""


def main() -> int:
    missing = lacking()
    if missing:
        print(f"demo: {missing}", file=sys.stderr)
        return 1
    keep = os.environ.get("KEEP", "") not in ("", "0")
    started = time.monotonic()
    try:
        with NspawnHost(prepare=install, progress=progress) as host:
            host.boot()
            show(host)
            progress(f"all of it held, after {time.monotonic() - started:.0f} s")
            if keep:
                host.keep()
                hosts = f"PYTHONPATH=tests {os.path.relpath(sys.executable, ROOT)} -m hosts"
                print(f"\nThe host stays up. A shell in it:  {hosts} exec {host.name}")
                print(f"Its end:                            {hosts} stop {host.name}")
    except (NotShown, HostError, BuildError, NoMirror) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as error:
        print(f"\ndemo: nothing came of this within {error.timeout:.0f} s: {error.cmd[-1]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    return 0


def install(root: Path) -> None:
    progress("installing the appliance's files on it")
    appliance.install(root)


def show(host: Host) -> None:
    """Every section is shown and checked; raises NotShown with what did not hold."""
    host_name = host.check("sed -n 's/^PRETTY_NAME=\"\\(.*\\)\"/\\1/p' /etc/os-release").strip()
    section(f"skim setup, on a host with {host_name} and no Python")
    print(host.check("/opt/skim/bin/skim setup"), end="")

    section("systemctl start docker")
    began = time.monotonic()
    host.check("systemctl start docker")
    print(f"done after {time.monotonic() - began:.1f} s")

    version = engine_version(host)
    versions = re.compile(rf"^ +Version: +{re.escape(version)}", re.MULTILINE)
    shown(host, "docker version", lambda text: len(versions.findall(text)) >= 2, f"client and server {version}")
    shown(host, "systemctl status docker --no-pager", lambda text: "active (running)" in text, "an active docker.service")

    section("the pod's cgroups, in the order of their start")
    tree = cgroups(host)
    print(tree)
    require("containerd-rkt-" in tree and tree.index("containerd-rkt-") < tree.index("docker-rkt-"), "containerd before dockerd")

    section(f"docker run busybox echo {GREETING!r}")
    host.check(IMPORT_BUSYBOX)
    line = host.check(["docker", "run", "--rm", "busybox", "/bin/busybox", "echo", GREETING])
    print(line, end="")
    require(line.strip() == GREETING, "the container's line")

    section("where the client really is")
    client = host.check(WHERE_CLIENT).strip()
    print(f"{host.check('command -v docker').strip()} became {client}")
    require(client.startswith("/run/skim/") or "/opt/stage2/docker/rootfs/" in client, "a client out of the pod")


def engine_version(host: Host) -> str:
    """The release of the Docker in docker.aci, as `26.1`: what client and server have to say."""
    manifest = parse_image_manifest(host.check("/opt/skim/bin/rkt image cat-manifest skim/docker"))
    labels = {label.name: label.value for label in manifest.labels}
    return ".".join(labels["version"].split(".")[:2])


def cgroups(host: Host) -> str:
    """The slices' units by the time they came up, with their processes."""
    units = host.check("systemctl list-units --plain --no-legend --all '*-rkt-*.service' 'rkt-*.scope' | cut -d' ' -f1").split()
    rows = []
    for unit in units:
        shown = host.check(["systemctl", "show", "-p", "ActiveEnterTimestampMonotonic,ControlGroup,Slice", unit])
        properties = dict(line.split("=", 1) for line in shown.splitlines())
        processes = (
            f"cat /sys/fs/cgroup/systemd{properties['ControlGroup']}/cgroup.procs /sys/fs/cgroup{properties['ControlGroup']}/cgroup.procs"
        )
        running = host.check(f"for p in $({processes} 2>/dev/null); do echo $p $(tr '\\0' ' ' </proc/$p/cmdline); done")
        rows.append((int(properties["ActiveEnterTimestampMonotonic"]), unit, properties["Slice"], running.splitlines()))
    rows.sort()
    tree = [rows[0][2]]
    for _, unit, _, found in rows:
        tree.append(f"├─{unit}")
        tree.extend(f"│ └─{process}" for process in found)
    return "\n".join(tree)


def shown(host: Host, command: str, holds: Callable[[str], bool], what: str) -> None:
    section(command)
    text = host.check(command)
    print(text, end="")
    require(holds(text), what)


def require(held: bool, what: str) -> None:
    if not held:
        raise NotShown(f"this did not show {what}")


def section(title: str) -> None:
    print(f"\n\033[1m── {title}\033[0m" if sys.stdout.isatty() else f"\n── {title}", flush=True)


def progress(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
