"""stage1_skim driven by nothing of ours: pod directories that are laid by hand, and entrypoints that are called as contract sections 2.6
and 3.2 say, by a shell that has only the contract. Where no real rkt is at hand, this stands for it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hosts.host import Completed, Host
from pod_directories import app_entry, app_section
from running_pods import leftovers
from small_images import SERVE, write_image

DATA = "/var/lib/other/pods"
STAGE1 = "/opt/skim/images/stage1-skim.aci"
IMAGES = {"serve": SERVE.format(name="serve"), "leave": 'echo leaving; exit "$1"\n'}


class HandLaid:
    """A pod directory on the host, as a stage0 that copies its images leaves it (contract sections 1.3 and 2.3)."""

    def __init__(self, host: Host, uuid: str, manifest: dict[str, Any]) -> None:
        self.host, self.uuid = host, uuid
        self.directory = f"{DATA}/run/{uuid}"
        stage1 = f"{self.directory}/stage1"
        host.check(f"mkdir -p -m 0750 {DATA}/run {DATA}/exited-garbage {self.directory} {stage1}; tar -xf {STAGE1} -C {stage1}")
        for entry in manifest["apps"]:
            home = f"{stage1}/rootfs/opt/stage2/{entry['name']}"
            host.check(f"mkdir -p -m 0750 {home}; tar -xf /tmp/driver/{entry['image']['name'].rpartition('/')[2]}.aci -C {home}")
        host.write(f"{self.directory}/pod", json.dumps(manifest), mode=0o640)
        annotations = json.loads(host.read(f"{stage1}/manifest"))["annotations"]
        self.entrypoints = {
            item["name"].removeprefix("coreos.com/rkt/stage1/"): item["value"]
            for item in annotations
            if item["name"].startswith("coreos.com/rkt/stage1/")
        }

    def program(self, entrypoint: str) -> str:
        """In the pod's own copy of stage1; the contract has it by its absolute path."""
        return f"{self.directory}/stage1/rootfs{self.entrypoints[entrypoint]}"

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        """What stage0 does last: the lock on an inherited descriptor, the pod directory, the environment, exec."""
        words = shlex.join([self.program("run"), *flags, self.uuid])
        variables = "RKT_LOCK_FD=9 RKT_SELINUX_CONTEXT= RKT_SELINUX_MOUNT_CONTEXT="
        script = f"cd {self.directory} && exec 9<. && flock --exclusive --nonblock 9 && exec env {variables} {words}"
        return self.host.popen(script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def runs(self) -> bool:
        """As every command of rkt looks."""
        return self.host.run(f"flock --shared --nonblock {self.directory} true").status != 0

    def wait_ready(self) -> str:
        """The pid that the pod has noted."""
        self.host.wait_until(f"[ $(readlink {self.directory}/stage1/rootfs/rkt/supervisor-status) = ready ]", timeout=30)
        return self.host.check(f"cat {self.directory}/pid").strip()

    def status(self, app: str) -> str:
        return self.host.check(f"cat {self.directory}/stage1/rootfs/rkt/status/{app}")

    def call(self, entrypoint: str, *words: str) -> Completed:
        return self.host.run(f"cd {self.directory} && exec {shlex.join([self.program(entrypoint), *words])}")


@pytest.fixture(scope="module")
def driver_host(pods_host: Host) -> Host:
    with tempfile.TemporaryDirectory() as folder:
        for name, script in IMAGES.items():
            pods_host.push(write_image(Path(folder) / f"{name}.aci", script, name=f"example.com/{name}"), f"/tmp/driver/{name}.aci")
    return pods_host


@contextmanager
def laid(host: Host, *entries: dict[str, Any], **fields: Any) -> Iterator[HandLaid]:
    uuid = host.check("cat /proc/sys/kernel/random/uuid").strip()
    manifest = {"acVersion": "1.30.0", "acKind": "PodManifest", "apps": list(entries), "volumes": None, "isolators": None, "ports": []}
    pod = HandLaid(host, uuid, {**manifest, **fields})
    try:
        yield pod
    finally:
        host.run(f"systemctl stop rkt-{uuid}.scope; rm -rf --one-file-system {DATA}/*/{uuid}")


def entry(name: str, image: str, *words: str, **fields: Any) -> dict[str, Any]:
    made = app_entry(name, app_section(*words), **fields)
    made["image"]["name"] = f"example.com/{image}"
    return made


def ours(err: bytes) -> list[str]:
    """Without what an app's shell says of its children."""
    return [line for line in err.decode().splitlines() if not line.endswith(": Terminated")]


def test_from_run_to_gc(driver_host: Host) -> None:
    entries = [entry("one", "serve", "/app", mounts=[{"volume": "v", "path": "/data"}]), entry("two", "serve", "/app")]
    driver_host.check("mkdir -p /srv/v; echo of the host > /srv/v/file")
    with laid(driver_host, *entries, volumes=[{"name": "v", "kind": "host", "source": "/srv/v"}]) as pod:
        assert not pod.runs
        process = pod.start("--net=default", "--local-config=/etc/rkt")
        pid = pod.wait_ready()
        assert pod.runs
        assert driver_host.check(f"tr '\\0' ' ' < /proc/{pid}/cmdline").split()[-1] == pod.uuid
        # Of enter alone the program is the stage1 image's own, and not the pod's copy.
        tree = "/tmp/driver/tree"
        driver_host.check(f"rm -rf {tree}; cp -a {pod.directory}/stage1/rootfs {tree}")
        enter = f"cd {pod.directory} && exec {tree}{pod.entrypoints['enter']} --pid={pid} --appname=one -- busybox"
        assert driver_host.check(f"{enter} cat data/file") == "of the host\n"
        assert driver_host.run(f"{enter} sh -c 'exit 42'").status == 42
        assert pod.call("stop", pod.uuid) == (0, "", "")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, ours(err)) == (0, [])
        assert sorted(out.decode().splitlines()) == ["one: serve ends", "one: serve is up", "two: serve ends", "two: serve is up"]
        assert not pod.runs
        assert (pod.status("one"), pod.status("two")) == ("0", "0")
        assert pod.call("stop", pod.uuid).status == 0
        driver_host.check(f"mv {pod.directory} {DATA}/exited-garbage/")
        pod.directory = f"{DATA}/exited-garbage/{pod.uuid}"
        for _ in range(2):
            assert pod.call("gc", "--debug", "--local-config", "/etc/rkt", pod.uuid) == (0, "", "")
        assert leftovers(driver_host, pod.uuid) == ""


def test_the_first_failure_is_what_run_exits_with(driver_host: Host) -> None:
    with laid(driver_host, entry("one", "serve", "/app"), entry("two", "leave", "/app", "5")) as pod:
        process = pod.start("--net=default")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 5
        assert b"two: leaving\n" in out
        assert ours(err) == ['run: app "two" failed with exit status 5']
        assert (pod.status("one"), pod.status("two")) == ("0", "5")
        assert pod.call("gc", pod.uuid).status == 0
        assert leftovers(driver_host, pod.uuid) == ""


def test_force_and_every_flag_there_is(driver_host: Host) -> None:
    flags = (
        *("--debug=false", "--net=bridge:IP=1.2.3.4,default", "--private-users=1:65536", "--mds-token=0123", "--local-config=/etc/rkt"),
        *("--hostname=h", "--dns-conf-mode=resolv=stage0,hosts=default", "--disable-capabilities-restriction", "--disable-paths"),
        *("--disable-seccomp", "--ipc=private"),
    )
    with laid(driver_host, entry("one", "serve", "/app")) as pod:
        process = pod.start(*flags)
        pod.wait_ready()
        assert pod.call("stop", "--force", pod.uuid).status == 0
        process.communicate(timeout=60)
        assert process.returncode in (-9, 137)
        driver_host.wait_until(f"flock --shared --nonblock {pod.directory} true", timeout=20)
        assert pod.call("gc", pod.uuid).status == 0
        assert leftovers(driver_host, pod.uuid) == ""


def test_what_cannot_be_started_has_the_status_of_an_error(driver_host: Host) -> None:
    with laid(driver_host, entry("one", "serve", "/no/such/program")) as pod:
        process = pod.start("--net=default")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (254, b"")
        assert len(err.splitlines()) == 1
        assert b"has no executable '/no/such/program'" in err
        assert leftovers(driver_host, pod.uuid) == ""
