"""The client by its link on PATH against the bare client, and the start of the service against the stock units of the same version.

Both sides run in turn, on hosts of the same kind, and are timed inside the host by the same shell: what is compared is whole processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.result import Result
from hosts import image
from hosts.host import Host
from hosts.nspawn import NspawnHost

PAIRS_OF_CLIENTS = 40
PAIRS_OF_STARTS = 12

# bash keeps the time of day in microseconds without starting a program for it.
_TIMED = """
before=${EPOCHREALTIME/./}
%s >/dev/null 2>&1 || exit 1
echo $((${EPOCHREALTIME/./} - before))
"""


def microseconds(host: Host, command: str) -> int:
    """How long the command took in the host. Raises HostError if it failed."""
    return int(host.check(["bash", "-c", _TIMED % command]))


def client(host: Host) -> Result:
    """`docker --version` with the pod up."""
    ours, bare = "/usr/local/bin/docker --version", "/run/skim/docker/docker/usr/bin/docker --version"
    host.check("systemctl start docker")
    loop = f"for i in $(seq {PAIRS_OF_CLIENTS + 2}); do {_TIMED % ours} {_TIMED % bare} done"
    numbers = [int(line) for line in host.check(["bash", "-c", loop], timeout=300).split()]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))[2:]
    return Result("docker-client", [one / other for one, other in pairs], 1.08, "the bare client of the same pod", ours)


def start(ours: Host, stock: Host) -> Result:
    """`systemctl start docker` from stopped, the engine installed."""
    samples = []
    for number in range(PAIRS_OF_STARTS + 1):
        times = []
        for host in (ours, stock):
            host.check(
                "systemctl stop docker.service docker.socket containerd.service 2>/dev/null || systemctl stop docker.service docker.socket"
            )
            host.check("systemctl reset-failed 2>/dev/null; sync")
            times.append(microseconds(host, "systemctl start docker"))
        if number:  # the first pair warms both up
            samples.append(times[0] / times[1])
    return Result(
        "docker-start", samples, 1.35, "containerd.service and docker.service of Debian 12, same version", "systemctl start docker"
    )


def run(install: Callable[[Path], None], progress: Callable[[str], None]) -> list[Result]:
    """Boot both hosts and measure."""
    with NspawnHost(prepare=install, progress=progress) as ours, NspawnHost(image.FLAVOURS["debian12-stock"], progress=progress) as stock:
        ours.boot()
        stock.boot()
        ours.check("/opt/skim/bin/skim setup", timeout=300)
        versions = [
            host.check("systemctl start docker && docker version -f '{{.Server.Version}}'").strip().split("+")[0] for host in (ours, stock)
        ]
        progress(f"engines: {versions[0]} of the appliance, {versions[1]} of the distribution")
        if versions[0] != versions[1]:
            raise ValueError(f"the engines differ: {versions[0]} and {versions[1]}")
        return [client(ours), start(ours, stock)]
