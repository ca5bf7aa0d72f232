"""Pods of small images on a host of the tests, by the installed `rkt` alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import appliance
from hosts import cache
from hosts.host import Completed, Host, HostError
from hosts.nspawn import NspawnHost
from small_images import SERVE, write_image

RKT = "/opt/skim/bin/rkt"
PODS = "/var/lib/rkt/pods"
SLEEP = "/bin/busybox sleep"
_IMAGES = "var/tmp/images"

# What the apps of these images do: the words after `--` are theirs.
SCRIPTS = {
    "first": SERVE.format(name="first"),
    "second": SERVE.format(name="second"),
    "third": SERVE.format(name="third"),
    "exit": 'echo leaving; exit "$1"\n',
    "shell": '[ $# -gt 0 ] || set -- /bin/busybox sh\nexec "$@"\n',
    "stubborn": "trap '' TERM; echo stubborn is up; while :; do /bin/busybox sleep 0.05; done\n",
}
RESTARTS = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=20ms\n"


class Pod:
    """One `rkt run`: its process on this machine, and the pod's UUID."""

    def __init__(self, host: Host, process: subprocess.Popen[bytes], uuid: str) -> None:
        self.host = host
        self.process = process
        self.uuid = uuid

    @property
    def directory(self) -> str:
        return f"{PODS}/run/{self.uuid}"

    def service(self, app: str) -> str:
        return f"{app}-rkt-{self.uuid}.service"

    def wait_ready(self, seconds: int = 30) -> None:
        self.host.check(f"{RKT} status --wait-ready={seconds}s {self.uuid}")

    def status(self) -> dict[str, str]:
        """What `rkt status` says, by its keys."""
        lines = self.host.check(f"{RKT} status {self.uuid}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def supervisor(self) -> str:
        return self.host.check(f"cat {self.directory}/pid").strip()

    def main_pid(self, app: str) -> str:
        return self.host.check(["systemctl", "show", "--value", "-p", "MainPID", self.service(app)]).strip()

    def ends(self, *apps: str) -> list[str]:
        """These apps, in the order in which systemd saw them end."""
        return ends(self.host, self.uuid, *apps)

    def stop(self, *flags: str) -> Completed:
        return self.host.run([RKT, "stop", *flags, self.uuid])

    def finished(self, seconds: float = 60) -> tuple[int, str]:
        """Its exit status and, where they were captured, both of its outputs."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, (output or b"").decode(errors="replace")


def ends(host: Host, uuid: str, *apps: str) -> list[str]:
    """These apps of a pod, in the order in which systemd saw them end.

    What they wrote last says less: lines of two apps that are read in one go have no order between them.
    """
    units = {f"{app}-rkt-{uuid}.service": app for app in apps}
    fields = " ".join(f"UNIT={unit}" for unit in units)
    lines = host.check(f"journalctl --sync; journalctl -q -o cat --no-pager {fields}").splitlines()
    return [units[line.split(":")[0]] for line in lines if line.endswith(": Deactivated successfully.")]


@contextmanager
def pods_host(progress: cache.Progress) -> Iterator[Host]:
    """A host with rkt, the stage1 and the images of SCRIPTS, called example.com/<name>, in its store."""

    def prepare(root: Path) -> None:
        appliance.install_without_engine(root)
        with (root / "etc/group").open("a") as group:  # what rkt warns of the absence of
            group.write("rkt:x:990:\n")
        with tempfile.TemporaryDirectory() as folder:
            files = [str(write_image(Path(folder) / f"{name}.aci", text, name=f"example.com/{name}")) for name, text in SCRIPTS.items()]
            unit = {"skim/unit": RESTARTS}
            restarting = write_image(Path(folder) / "again.aci", SERVE.format(name="again"), name="example.com/again", annotations=unit)
            fetch(root, *files, str(restarting))

    with NspawnHost(prepare=prepare, progress=progress) as host:
        host.boot()
        yield host


def fetch(root: Path, *images: str) -> None:
    """Put images into the store of a host that is down, whose root this is."""
    rkt = [f"{appliance.BUILD}/frozen/host/rkt", f"--dir={root}/var/lib/rkt", "--insecure-options=image", "fetch"]
    stage1 = str(appliance.BUILD / "stage1-skim.aci")
    subprocess.run([*rkt, stage1, *images], check=True, stdout=subprocess.DEVNULL)


def run_command(arguments: str, uuid_file: str = "/tmp/uuid") -> str:
    """Shell text; images by their short names: `first --name=x second -- word`."""
    words, for_app = [], False
    for word in arguments.split(" "):
        for_app = word == "--" or (for_app and word != "---")
        words.append(f"example.com/{word}" if not for_app and word in (*SCRIPTS, "again") else word)
    return f"rm -f {uuid_file}; exec {RKT} run --uuid-file-save={uuid_file} {' '.join(words)}"


def in_background(arguments: str) -> str:
    """The same where it may be stopped by SIGSTOP: nsenter would stop with it and never hear of its end."""
    # What a shell puts into the background ignores SIGINT, unless it is told not to.
    return f"{run_command(arguments).replace('exec ', 'env --default-signal=INT ')} <&0 & wait $!"


def lingering(arguments: str) -> str:
    """The same for a terminal whose last words are looked at: the kernel drops what nobody has read yet when its session's leader ends."""
    return f"{run_command(arguments).replace('exec ', '')}; status=$?; sleep 0.5; exit $status"


@contextmanager
def running(
    host: Host,
    arguments: str,
    *,
    ready: bool = True,
    command: Callable[[str], str] = run_command,
    environment: dict[str, str] | None = None,
    **streams: Any,
) -> Iterator[Pod]:
    """`rkt run` in the background; removed at the end whatever the test did with it."""
    host.check("rm -f /tmp/uuid")
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **streams}
    process = host.popen(command(arguments), environment=environment, **streams)
    host.wait_until("[ -s /tmp/uuid ]", timeout=20)
    pod = Pod(host, process, host.check("cat /tmp/uuid").strip())
    try:
        if ready:
            pod.wait_ready()
        yield pod
    finally:
        remove(pod)


@contextmanager
def entered(pod: Pod, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """`rkt enter` of a shell of the image in the background, and what it writes; killed at the end if it is still there."""
    argv = [RKT, "enter", pod.uuid, "busybox", "sh", "-c", script]
    with pod.host.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def remove(pod: Pod) -> None:
    """Whatever state it is in."""
    pod.host.run(f"{RKT} stop --force {pod.uuid}")
    with suppress(subprocess.TimeoutExpired, ValueError):
        pod.process.communicate(timeout=30)
    if pod.process.poll() is None:
        pod.process.kill()
        pod.process.wait()
    if pod.host.run(f"ls -d {PODS}/*/{pod.uuid}").status == 0:
        pod.host.check(f"{RKT} rm {pod.uuid}")


def leftovers(host: Host, uuid: str) -> str:
    """Everything on the host that still bears the pod's UUID, a line each; systemd learns of mounts that are gone a moment later."""
    bare = uuid.replace("-", "")
    with suppress(HostError):
        host.wait_until(f"! systemctl list-units --all --plain --no-legend | grep -e {uuid.replace('-', '.*')}", timeout=5)
    found = host.run(
        f"ls /run/systemd/system /run/systemd/transient /run/systemd/units /run/skim | grep {uuid}; grep {uuid} /proc/self/mountinfo;"
        f"find /sys/fs/cgroup -name '*{bare}*' -o -name '*{uuid}*'; ls -d {PODS}/*/{uuid};"
        f"systemctl list-units --all --plain --no-legend | grep -e {uuid} -e {bare}"
    )
    return found.stdout


@contextmanager
def held_at(host: Host, step: str, arguments: str = "first second") -> Iterator[Pod]:
    """A pod whose start stands still after `step`."""
    with running(host, arguments, ready=False, command=in_background, environment={"SKIM_STOP_AT": step}) as pod:
        holder = host.wait_until(lock_holder_command(pod.uuid), timeout=20).strip()
        host.wait_until(f"grep -q '^State:.T' /proc/{holder}/status", timeout=20)
        yield pod


def lock_holder_command(uuid: str) -> str:
    """Shell text that says who holds the pod's lock."""
    find = f"inode=$(stat -c %i /var/lib/rkt/pods/*/{uuid})"
    return find + '; set -- $(grep "FLOCK .*WRITE .*:$inode " /proc/locks); [ "${5:-0}" -gt 0 ] && echo $5'


def lock_holder(host: Host, uuid: str) -> str:
    """Its PID, "0" if nobody does."""
    return host.run(lock_holder_command(uuid)).stdout.strip() or "0"
