"""Pods of small images: start, stop, collection, and what a supervisor costs while it waits.

The peer is a real rkt 1.30 with its stage1-fly where one is on PATH (`rkt`, with stage1-fly.aci beside it), which runs one app and no
systemd unit; else systemd itself, starting and stopping the same program as a scope.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.result import Result
from hosts.host import Host
from hosts.nspawn import NspawnHost
from small_images import write_image

PAIRS = 10
DEAD_PODS = 500

# The first thing that the app does is to say so; whoever started it reads that. stage1-fly shows an app the /dev of the host, not its /tmp.
_APP = "echo up > /dev/shm/up; trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done\n"

_IDLE_SECONDS = 3

# What the medians may reach: about a third more than two cores showed. The peer's few milliseconds make the ratio of a start largest
# when the machine is quiet (12.6, 2.9), and that of a stop when it is busy (6.8).
_LIMITS = {"run-1-app": 16.0, "run-10-apps": 4.0, "stop": 9.0, "supervisor-pss": 18_000_000}
_LIMITS_OF_FLY = {"run-1-app": 7.0, "stop": 5.0, "gc-500": 2.0}

OURS = "/opt/skim/bin/rkt --insecure-options=image"
_FLY = "/root/peer/rkt --dir=/var/lib/peer --insecure-options=image"

_UNTIL_UP = """
rm -f /dev/shm/up; mkfifo /dev/shm/up; exec 3<>/dev/shm/up
before=${{EPOCHREALTIME/./}}
{start}
for app in $(seq {apps}); do read -r -t 30 line <&3 || exit 1; done
echo $((${{EPOCHREALTIME/./}} - before))
"""
_UNTIL_DOWN = """
before=${{EPOCHREALTIME/./}}
{stop}
wait
echo $((${{EPOCHREALTIME/./}} - before))
"""


class Side:
    """One way to start and stop the program; `images` are IDs in its store."""

    def __init__(self, host: Host, rkt: str, stage1: str, image: str) -> None:
        self.host, self.rkt = host, rkt
        self.image = host.check(f"{rkt} fetch --full {image}").strip()
        self.stage1 = f"--stage1-path={stage1}" if stage1 else ""
        if stage1:  # once, so that later runs find it rendered
            self.stage1 = "--stage1-hash=" + host.check(f"{rkt} fetch --full {stage1}").strip()

    def script(self, apps: int) -> str:
        images = " ".join(f"{self.image} --name=app{number}" for number in range(apps))
        start = f"{self.rkt} run {self.stage1} --net=host --uuid-file-save=/tmp/uuid {images} </dev/null >/dev/null 2>&1 &"
        stop = f"{self.rkt} stop --uuid-file=/tmp/uuid >/dev/null"
        return _UNTIL_UP.format(start=start, apps=apps) + _UNTIL_DOWN.format(stop=stop) + f"{self.rkt} rm --uuid-file=/tmp/uuid >/dev/null"

    def times(self, apps: int) -> list[int]:
        """Microseconds until the apps were up, and until all had ended."""
        return [int(line) for line in self.host.check(["bash", "-c", self.script(apps)]).split()]


class Scopes(Side):
    """systemd's own way: one transient scope for each program."""

    def __init__(self, host: Host, program: str) -> None:
        self.host, self.program = host, program

    def script(self, apps: int) -> str:
        start = "\n".join(
            f"systemd-run --quiet --scope --unit=peer{number} {self.program} </dev/null >/dev/null 2>&1 &" for number in range(apps)
        )
        stop = "systemctl stop " + " ".join(f"peer{number}.scope" for number in range(apps))
        return _UNTIL_UP.format(start=start, apps=apps) + _UNTIL_DOWN.format(stop=stop)


def run(install: Callable[[Path], None], progress: Callable[[str], None]) -> list[Result]:
    """Boot a host and measure."""
    real = shutil.which("rkt")
    fly = Path(real).resolve().parent / "stage1-fly.aci" if real else None

    def prepare(root: Path) -> None:
        install(root)
        if real and fly and fly.exists():
            (root / "root/peer").mkdir()
            for file in (real, fly):
                shutil.copy(file, root / "root/peer")

    with NspawnHost(prepare=prepare, progress=progress) as host, tempfile.TemporaryDirectory() as folder:
        host.boot()
        host.check("mkdir -p /srv/app/bin && cp /bin/busybox /srv/app/bin/")
        host.write("/srv/app/app", "#!/bin/busybox sh\n" + _APP, mode=0o755)
        host.push(write_image(Path(folder) / "app.aci", _APP), "/tmp/app.aci")
        host.push(write_image(Path(folder) / "short.aci", "exit 0\n", name="example.com/short"), "/tmp/short.aci")
        ours = Side(host, OURS, "/opt/skim/images/stage1-skim.aci", "/tmp/app.aci")
        scopes = Scopes(host, "/srv/app/app")
        one: Side = scopes
        if host.run("test -e /root/peer/rkt").status == 0:
            one = Side(host, _FLY, "/root/peer/stage1-fly.aci", "/tmp/app.aci")
        peer = None if one is scopes else one
        return [*_starts(ours, one, scopes, progress), _collection(host, progress, peer), _supervisor(host, ours, peer)]


def _starts(ours: Side, one: Side, scopes: Side, progress: Callable[[str], None]) -> list[Result]:
    up: dict[int, list[float]] = {1: [], 10: []}
    down = []
    for apps, peer in ((1, one), (10, scopes)):
        for number in range(PAIRS + 1):
            ours_up, ours_down = ours.times(apps)
            peer_up, peer_down = peer.times(apps)
            up_times = f"up {ours_up / 1000:.0f} ms against {peer_up / 1000:.0f}"
            progress(f"{apps} app(s): {up_times}, down {ours_down / 1000:.0f} against {peer_down / 1000:.0f}")
            if number:  # the first pair warms both up
                up[apps].append(ours_up / peer_up)
                if apps == 1:
                    down.append(ours_down / peer_down)
    peer_name = "systemd-run --scope of the same program" if one is scopes else "rkt 1.30 with stage1-fly"
    limits = _LIMITS if one is scopes else _LIMITS_OF_FLY
    return [
        Result("run-1-app", up[1], limits["run-1-app"], peer_name, "rkt run IMAGE, to the app's first instruction"),
        Result(
            "run-10-apps",
            up[10],
            _LIMITS["run-10-apps"],
            "ten systemd-run --scope of the same program",
            "rkt run with ten images, to the last app's first instruction",
        ),
        Result("stop", down, limits["stop"], peer_name, "rkt stop, until rkt run has ended"),
    ]


def _collection(host: Host, progress: Callable[[str], None], real: Side | None) -> Result:
    """Seconds a pod; with a real rkt at hand the ratio to it, whose stage1-fly has nothing of systemd's to look after."""
    image = host.check(f"{OURS} fetch --full /tmp/short.aci").strip()
    progress(f"leaving {DEAD_PODS} dead pods")
    host.check(f"for i in $(seq {DEAD_PODS}); do {OURS} run {image} >/dev/null 2>&1 || exit 1; done", timeout=600)
    ours = _collected(host, OURS, "/var/lib/rkt")
    command = f"rkt gc --grace-period=0s with {DEAD_PODS} dead pods"
    if real is None:
        return Result("gc-500", [ours], 60 / DEAD_PODS, "none (seconds a pod)", command)
    short = host.check(f"{real.rkt} fetch --full /tmp/short.aci").strip()
    run = f"{real.rkt} run {real.stage1} --net=host {short} >/dev/null 2>&1"
    host.check(f"for i in $(seq {DEAD_PODS}); do {run} || exit 1; done", timeout=600)
    theirs = _collected(host, real.rkt, "/var/lib/peer")
    progress(f"gc: {ours * 1000:.0f} ms a pod against {theirs * 1000:.0f}")
    return Result("gc-500", [ours / theirs], _LIMITS_OF_FLY["gc-500"], "rkt 1.30 with stage1-fly", command)


def _collected(host: Host, rkt: str, data: str) -> float:
    """Seconds that each of the dead pods took."""
    gc = f"before=${{EPOCHREALTIME/./}}; {rkt} gc --grace-period=0s >/dev/null 2>&1; echo $((${{EPOCHREALTIME/./}} - before))"
    took = int(host.check(["bash", "-c", gc], timeout=600))
    left = host.check(f"ls -d {data}/pods/run/* {data}/pods/exited-garbage/* 2>/dev/null | wc -l").strip()
    if left != "0":
        raise subprocess.SubprocessError(f"{left} pods are left after gc")
    return took / 1e6 / DEAD_PODS


def _supervisor(host: Host, ours: Side, real: Side | None) -> Result:
    """Proportional set size of an idle pod's supervisor, in bytes, and that it used no CPU meanwhile.

    stage1-fly has none: its process is the app. A scope has none either.
    """
    peer = "none (bytes)" if real is None else "none (bytes; stage1-fly becomes the app)"
    start = f"{ours.rkt} run {ours.stage1} --uuid-file-save=/tmp/uuid {ours.image} </dev/null >/dev/null 2>&1 &"
    host.check(
        f"rm -f /tmp/uuid; {start} until {ours.rkt} status --wait-ready=30s --uuid-file=/tmp/uuid; do sleep 0.1; done >/dev/null 2>&1"
    )
    pid = host.check("cat /var/lib/rkt/pods/run/$(cat /tmp/uuid)/pid").strip()
    look = f"sleep 1; cut -d' ' -f14,15 /proc/{pid}/stat; grep ctxt /proc/{pid}/status"
    before = host.check(look)
    time.sleep(_IDLE_SECONDS)
    if host.check(look) != before:
        raise subprocess.SubprocessError(f"the supervisor of an idle pod did something within {_IDLE_SECONDS} s")
    size = int(host.check(f"sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/{pid}/smaps_rollup")) * 1024
    host.check(f"{ours.rkt} stop --uuid-file=/tmp/uuid && {ours.rkt} status --wait=30s --uuid-file=/tmp/uuid")
    host.check(f"{ours.rkt} rm --uuid-file=/tmp/uuid")
    return Result("supervisor-pss", [size], _LIMITS["supervisor-pss"], peer, "Pss of /proc/<supervisor>/smaps_rollup, pod idle")
