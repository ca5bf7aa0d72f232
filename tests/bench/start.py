"""Where the milliseconds of a start go: how long `rkt run` of one app takes to each of its steps (`python -m bench start-steps`).

SKIM_STOP_AT makes the very programs that are shipped stop at a step; a shell with job control learns of that at once. Beside the time of
day there is the time that the program was on a CPU (schedstat), which other work on the machine hardly changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.pods import OURS, Side
from hosts.host import Host
from hosts.nspawn import NspawnHost
from small_images import write_image

ROUNDS = 15

# In the order in which they are reached, with what was done when they are.
STEPS = {
    "created": "rkt is loaded, the images are found, the pod directory is made",
    "prepared": "manifest and trees written and synced",
    "moved": "the pod is in run, synced",
    "stage1-mounted": "stage1's overlay is mounted",
    "exec": "the app's overlay and files are there; stage1 is executed",
    "locked": "stage1's run is loaded",
    "planned": "manifest read, units planned",
    "files": "/etc/hosts and the like",
    "volumes": "volumes are mounted",
    "ways": "the way to the app below /run/skim is mounted",
    "libraries": "the image's libraries are mounted",
    "units": "units are written",
    "pid": "the pid file is written",
    "scope": "systemd has moved the supervisor into its scope",
    "ready": "systemd has started the app, the pod is up",
}

_SCRIPT = """
set -m
exec 2>/dev/null
before=${{EPOCHREALTIME/./}}
SKIM_STOP_AT={step} {rkt} run {stage1} --uuid-file-save=/tmp/uuid {image} </dev/null >/dev/null 2>&1
[ $? -eq 147 ] || exit 1
took=$((${{EPOCHREALTIME/./}} - before))
read -r cpu rest < /proc/$(jobs -p %1)/schedstat
echo $took $((cpu / 1000))
kill -KILL %1
wait
{rkt} gc --grace-period=0s >/dev/null
"""


def run(install: Callable[[Path], None], progress: Callable[[str], None]) -> str:
    """Boot a host, measure, and return a table: each step's own share and the sum so far, in milliseconds and the least of ROUNDS; then
    the same of the time on a CPU."""
    with NspawnHost(prepare=install, progress=progress) as host, tempfile.TemporaryDirectory() as folder:
        host.boot()
        host.push(write_image(Path(folder) / "app.aci", "exec sleep 1000\n"), "/tmp/app.aci")
        ours = Side(host, OURS, "/opt/skim/images/stage1-skim.aci", "/tmp/app.aci")
        samples: dict[str, list[tuple[int, int]]] = {step: [] for step in STEPS}
        for number in range(ROUNDS + 1):
            progress(f"round {number} of {ROUNDS}")
            for step, found in samples.items():
                took = _until(host, ours, step)
                if number:  # the first round warms up
                    found.append(took)
    rows = [f"{'step':16}{'ms':>7}{'sum':>7}{'on CPU':>9}{'sum':>7}"]
    before = (0.0, 0.0)
    for step, done in STEPS.items():
        now = (min(took for took, _ in samples[step]) / 1000, min(cpu for _, cpu in samples[step]) / 1000)
        rows.append(f"{step:16}{now[0] - before[0]:7.1f}{now[0]:7.1f}{now[1] - before[1]:9.1f}{now[1]:7.1f}  {done}")
        before = now
    return "\n".join(rows)


def _until(host: Host, side: Side, step: str) -> tuple[int, int]:
    """Microseconds: by the clock, and on a CPU."""
    said = host.check(["bash", "-c", _SCRIPT.format(step=step, rkt=side.rkt, stage1=side.stage1, image=side.image)])
    took, cpu = map(int, said.split())
    return took, cpu
