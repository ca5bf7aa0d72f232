"""stage1_skim under a real rkt 1.30, where one is at hand: `rkt` on PATH, or the program that SKIM_RKT names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from field_pods import write_field_image
from hosts import cache
from hosts.host import Host
from hosts.nspawn import NspawnHost
from running_pods import ends, leftovers
from small_images import SERVE, write_image

DATA = "/var/lib/real"
RKT = f"/root/real/rkt --dir={DATA} --insecure-options=image"


def real_rkt() -> str:
    """The path of a real rkt 1.30, "" where there is none. What says that no Go built it is ours."""
    path = os.environ.get("SKIM_RKT") or shutil.which("rkt") or ""
    if not path:
        return ""
    said = subprocess.run([path, "version"], capture_output=True, text=True, check=False).stdout
    return path if re.search(r"^rkt Version: 1\.30", said, re.MULTILINE) and re.search(r"^Go Version: go", said, re.MULTILINE) else ""


pytestmark = pytest.mark.skipif(
    not real_rkt(), reason="no rkt 1.30 at hand (rkt on PATH, or SKIM_RKT=its path); test_stage1_driver.py stands for it"
)


class Real:
    """The host, and IDs of what is in the store of its real rkt."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.stage1 = "--stage1-hash=" + self.fetch("/opt/skim/images/stage1-skim.aci")
        self.serve, self.field = self.fetch("/root/real/serve.aci"), self.fetch("/root/real/field.aci")

    def fetch(self, path: str) -> str:
        return self.host.check(f"{RKT} fetch --full {path}", timeout=300).split()[-1]

    def run(self, words: str) -> str:
        """Shell text. The network is the host's, which is all that this stage1 has."""
        return f"rm -f /tmp/uuid; exec {RKT} run {self.stage1} --net=host --uuid-file-save=/tmp/uuid {words}"

    def collected(self, uuid: str) -> str:
        """What is left after a gc."""
        done = self.host.run(f"{RKT} gc --grace-period=0s", timeout=120)
        assert done.status == 0
        assert "stage1 GC" not in done.stderr, done.stderr
        return leftovers(self.host, uuid) + self.host.run(f"ls -d {DATA}/pods/*/{uuid}").stdout


@pytest.fixture(scope="module")
def real(progress: cache.Progress) -> Iterator[Real]:
    def prepare(root: Path) -> None:
        appliance.install_without_engine(root)
        (root / "root/real").mkdir()
        shutil.copy(real_rkt(), root / "root/real/rkt")
        with tempfile.TemporaryDirectory() as folder:
            write_image(Path(folder) / "serve.aci", SERVE.format(name="serve"), name="example.com/serve")
            write_field_image(Path(folder) / "field.aci", "example.com/field")
            for image in ("serve.aci", "field.aci"):
                shutil.copy(Path(folder) / image, root / "root/real")

    with NspawnHost(prepare=prepare, progress=progress) as host:
        host.boot()
        yield Real(host)


def test_exit_status_and_output(real: Real) -> None:
    done = real.host.run(real.run(f"{real.field} -- -c 'echo out; echo err >&2; exit 7'"), timeout=60)
    uuid = real.host.check("cat /tmp/uuid")
    assert (done.status, done.stdout) == (7, "out\n")
    assert {"err", 'run: app "field" failed with exit status 7'} <= set(done.stderr.splitlines())
    status = real.host.check(f"{RKT} status {uuid}").splitlines()
    assert {"state=exited", "exited=true", "app-field=7"} <= set(status)
    assert real.collected(uuid) == ""


def test_two_apps_status_enter_stop_and_gc(real: Real) -> None:
    process = real.host.popen(
        real.run(f"{real.serve} --name=one {real.serve} --name=two"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    real.host.wait_until(f"[ -s /tmp/uuid ] && {RKT} status --wait-ready=30s $(cat /tmp/uuid)", timeout=60)
    uuid = real.host.check("cat /tmp/uuid")
    status = dict(line.split("=", 1) for line in real.host.check(f"{RKT} status {uuid}").splitlines())
    assert status["state"] == "running"
    assert status["pid"] == real.host.check(f"cat {DATA}/pods/run/{uuid}/pid").strip()
    assert "started" in status
    assert re.search(rf"^{uuid[:8]}\s+one\s.*\srunning\s", real.host.check(f"{RKT} list"), re.MULTILINE)
    entered = real.host.run(f"{RKT} enter --app=two {uuid} busybox sh -c 'echo $AC_APP_NAME; pwd; exit 3'")
    assert (entered.status, entered.stdout) == (3, f"two\n/run/skim/{uuid}/two\n")
    assert real.host.check(f"{RKT} stop {uuid}") == f'"{uuid}"\n'
    output = process.communicate(timeout=60)[0].decode().splitlines()
    assert process.returncode == 0
    assert sorted(output) == ["one: serve ends", "one: serve is up", "two: serve ends", "two: serve is up"]
    assert ends(real.host, uuid, "one", "two") == ["two", "one"]
    status = dict(line.split("=", 1) for line in real.host.check(f"{RKT} status {uuid}").splitlines())
    assert (status["state"], status["app-one"], status["app-two"]) == ("exited", "0", "0")
    assert real.collected(uuid) == ""


def test_a_volume_and_a_user_of_the_image(real: Real) -> None:
    real.host.check("mkdir -p /srv/real; echo of the host > /srv/real/file")
    volume = "--volume=v,kind=host,source=/srv/real,readOnly=true --mount=volume=v,target=/mnt"
    script = "'cat mnt/file; touch mnt/new || echo read-only; echo $(/bin/busybox id -u) $(/bin/busybox id -g) $USER'"
    done = real.host.run(real.run(f"{volume} {real.field} --user=web --group=www -- -c {script}"), timeout=60)
    assert (done.status, done.stdout) == (0, "of the host\nread-only\n4242 4343 web\n")
    uuid = real.host.check("cat /tmp/uuid")
    assert real.host.check("ls /srv/real") == "file\n"
    assert real.collected(uuid) == ""


def test_a_prepared_pod_and_rm(real: Real) -> None:
    uuid = real.host.check(f"{RKT} prepare --quiet {real.stage1} {real.field} -- -c 'exit 4'").split()[-1]
    assert real.host.run(f"{RKT} run-prepared --net=host {uuid}", timeout=60).status == 4
    assert real.host.check(f"{RKT} rm {uuid}") == f'"{uuid}"\n'
    assert leftovers(real.host, uuid) == ""


def test_killed_and_collected(real: Real) -> None:
    process = real.host.popen(real.run(real.serve), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    real.host.wait_until(f"[ -s /tmp/uuid ] && {RKT} status --wait-ready=30s $(cat /tmp/uuid)", timeout=60)
    uuid = real.host.check("cat /tmp/uuid")
    real.host.check(f"kill -9 $(cat {DATA}/pods/run/{uuid}/pid)")
    process.wait(30)
    assert "state=exited" in real.host.check(f"{RKT} status {uuid}")
    assert real.collected(uuid) == ""
