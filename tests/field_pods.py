"""Pods for tests of single fields of a manifest: a small image in the host's store, and pod manifests that are made for one test."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from appc.archive_writing import write_archive
from appc.image import parse_image_manifest
from hosts.host import Completed, Host
from pod_directories import app_entry, app_section, image_manifest

RKT = "/opt/skim/bin/rkt"
BUSYBOX = Path("/bin/busybox")
PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:4242:99::/home/web:/bin/sh\nlost:x:4300:99::/nowhere:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:4343:\n"


def write_field_image(path: Path, name: str, annotations: dict[str, str] | None = None) -> None:
    """busybox, a database of users, a home, a few links; the app section is the pod manifest's affair."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for directory in ("bin", "etc", "home/web", "root", "tmp", "srv/data/deep", "opt/one", "opt/two"):
            (tree / directory).mkdir(parents=True, exist_ok=True)
        (tree / "tmp").chmod(0o1777)
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        (tree / "bin/sh").symlink_to("busybox")
        (tree / "etc/passwd").write_text(PASSWD)
        (tree / "etc/group").write_text(GROUP)
        (tree / "home/web/file").write_text("a file at home\n")
        os.chown(tree / "home/web/file", 4242, 4343)
        (tree / "bin/nproc").write_text('#!/bin/sh\necho "the image\'s $0"\n')  # called as one of the host's is
        (tree / "bin/nproc").chmod(0o755)
        (tree / "srv/data/file").write_text("of the image\n")
        (tree / "srv/data").chmod(0o2771)
        (tree / "srv/data/link").symlink_to("/etc/hostname")
        (tree / "link-to-etc").symlink_to("/etc")
        for place in ("one", "two"):
            script = tree / "opt" / place / "tool"
            script.write_text(f'#!/bin/sh\necho "{place}: $0 $*"\n')
            script.chmod(0o755)
        (tree / "probe").write_text(PROBE)
        (tree / "probe").chmod(0o755)
        manifest = parse_image_manifest(json.dumps(image_manifest(name, app=app_section("/bin/sh"), annotations=annotations or {})))
        write_archive(str(tree), manifest, str(path))


# Copies what the kernel says that it was started with; /tmp/probe is the host's.
PROBE = """\
#!/bin/busybox sh
cd /tmp/probe && /bin/busybox cat /proc/$$/cmdline > "$AC_APP_NAME.words.new" && /bin/busybox cat /proc/$$/environ > "$AC_APP_NAME.environ"
/bin/busybox mv "$AC_APP_NAME.words.new" "$AC_APP_NAME.words"
"""


class Result(NamedTuple):
    """What `rkt run` of a pod that ended by itself said."""

    uuid: str
    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class FieldPods:
    """A host with the images in its store."""

    def __init__(self, host: Host, images: dict[str, str]) -> None:
        self.host = host
        self.images = images

    def entry(self, name: str, *words: str, image: str = "plain", readOnlyRootFS: bool = False, **fields: Any) -> dict[str, Any]:
        """An app whose `exec` is `words`; `mounts` and `annotations` are the entry's, all other fields the app section's."""
        outer: dict[str, Any] = {key: fields.pop(key) for key in ("mounts", "annotations") if key in fields}
        if readOnlyRootFS:
            outer["readOnlyRootFS"] = True
        entry = app_entry(name, app_section(*words, **fields), **outer)
        entry["image"]["id"] = self.images[image]
        return entry

    def shell(self, script: str, name: str = "app", **fields: Any) -> dict[str, Any]:
        """An app that is a script for the image's shell."""
        return self.entry(name, "/bin/sh", "-c", script, **fields)

    def write(self, *entries: dict[str, Any], **fields: Any) -> None:
        manifest = {"acVersion": "1.30.0", "acKind": "PodManifest", "apps": list(entries), **fields}
        self.host.write("/tmp/pod.json", json.dumps(manifest, ensure_ascii=False))

    def command(self, flags: str = "") -> str:
        return f"{RKT} --insecure-options=image run {flags} --uuid-file-save=/tmp/uuid --pod-manifest=/tmp/pod.json"

    def run(self, *entries: dict[str, Any], flags: str = "", **fields: Any) -> Result:
        """Run a pod to its end, and remove it."""
        with self.ended(*entries, flags=flags, **fields) as result:
            return result

    @contextmanager
    def ended(self, *entries: dict[str, Any], flags: str = "", timeout: float = 60, **fields: Any) -> Iterator[Result]:
        """The same, to be looked at before it is removed."""
        self.write(*entries, **fields)
        self.host.check("rm -f /tmp/uuid")
        done: Completed = self.host.run(self.command(flags), timeout=timeout)
        uuid = self.host.check("cat /tmp/uuid").strip()
        try:
            yield Result(uuid=uuid, status=done.status, stdout=done.stdout, stderr=done.stderr)
        finally:
            self.host.check(f"{RKT} rm {uuid}")

    @contextmanager
    def running(self, *entries: dict[str, Any], flags: str = "", environment: dict[str, str] | None = None, **fields: Any) -> Iterator[str]:
        """The UUID of a pod that is up, or that SKIM_STOP_AT in the `environment` holds up; its output is in /tmp/output."""
        self.write(*entries, **fields)
        self.host.check("rm -f /tmp/uuid")
        environment = environment or {}
        held = "SKIM_STOP_AT" in environment  # nsenter would stop with it
        run = f"{self.command(flags)} > /tmp/output 2>&1"
        process = self.host.popen(f"{run} & wait $!" if held else f"exec {run}", environment=environment)
        try:
            self.host.wait_until("[ -s /tmp/uuid ]", timeout=20)
            uuid = self.host.check("cat /tmp/uuid").strip()
            if held:
                self.host.wait_until(f"grep -q '^State:.T' /proc/$(cat /var/lib/rkt/pods/run/{uuid}/pid)/status", timeout=20)
            else:
                ready = self.host.run(f"{RKT} status --wait-ready=20s {uuid}")
                assert ready.status == 0, ready.stderr + self.host.check("cat /tmp/output")
            yield uuid
        finally:
            uuid = self.host.check("cat /tmp/uuid").strip()
            self.host.run(f"{RKT} stop --force {uuid}")
            process.wait(30)
            self.host.check(f"{RKT} rm {uuid}")

    def property(self, uuid: str, app: str, name: str) -> str:
        """A property of the app's service, as systemd has it."""
        return self.host.check(["systemctl", "show", "--value", "-p", name, f"{app}-rkt-{uuid}.service"]).strip()


def make_field_pods(host: Host, folder: Path) -> FieldPods:
    """Put the images into the host's store."""
    annotations = {
        "plain": {},
        "docker": {"appc.io/docker/repository": "library/test"},
        "notify": {"appc.io/executor/supports-systemd-notify": "true"},
        "after-nothing": {"skim/after": ""},
    }
    images = {}
    for name, those in annotations.items():
        write_field_image(folder / f"{name}.aci", f"example.com/{name}", those)
        host.push(folder / f"{name}.aci", f"/tmp/{name}.aci")
        images[name] = host.check(f"{RKT} --insecure-options=image fetch --full /tmp/{name}.aci").strip().splitlines()[-1]
    host.check("mkdir -p /tmp/probe && chmod 1777 /tmp/probe")
    return FieldPods(host, images)
