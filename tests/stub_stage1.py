"""A stage1 image of shell scripts, and an app image, for tests of stage0: what stage0 hands over is left in the pod directory."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

# `run` records what it was given, then acts as one app: STUB_WAIT keeps it up until `stop`, STUB_STATUS is its exit status.
RUN = """\
#!/bin/sh
echo $$ > pid
printf '%s\\n' "$0" "$@" > run-arguments
env > run-environment
pwd > run-directory
readlink "/proc/$$/fd/$RKT_LOCK_FD" > run-lock
grep SigIgn /proc/$$/status > run-signals
ln -s ready stage1/rootfs/rkt/supervisor-status
[ -z "$STUB_WAIT" ] || while [ ! -e stop-arguments ]; do sleep 0.05; done
echo "${STUB_STATUS:-0}" > stage1/rootfs/rkt/status/app
echo "ran"
exit "${STUB_STATUS:-0}"
"""
RECORD = """\
#!/bin/sh
printf '%s\\n' "$0" "$@" > {name}-arguments
pwd > {name}-directory
echo said
{more}
"""
ENTRYPOINTS = ("run", "enter", "stop", "gc")


def write_image(path: Path, manifest: dict[str, Any], files: dict[str, str | None]) -> Path:
    """An .aci: `files` below rootfs, None for a directory."""
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "rootfs", None)
        for name, content in files.items():
            _add(archive, f"rootfs/{name}", content)
        _add(archive, "manifest", json.dumps(manifest))
    return path


def stub_stage1(path: Path, *, version: str | None = "5", without: tuple[str, ...] = (), gc: str = "") -> Path:
    """The stage1; `without` leaves entrypoints out, `gc` is more for that script to do."""
    names = [name for name in ENTRYPOINTS if name not in without]
    annotations = [{"name": f"coreos.com/rkt/stage1/{name}", "value": f"/stub/{name}"} for name in names]
    if version is not None:
        annotations.append({"name": "coreos.com/rkt/stage1/interface-version", "value": version})
    files: dict[str, str | None] = dict.fromkeys(("stub", "rkt", "rkt/status", "rkt/env", "opt", "opt/stage2", "etc"))
    for name in names:
        files[f"stub/{name}"] = RUN if name == "run" else RECORD.format(name=name, more=gc if name == "gc" else "")
    return write_image(path, image_manifest("example.com/stub", annotations=annotations), files)


def image_manifest(name: str, **members: Any) -> dict[str, Any]:
    labels = [{"name": "version", "value": "1.0.0"}, {"name": "arch", "value": "amd64"}, {"name": "os", "value": "linux"}]
    return {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": name, "labels": labels, **members}


def app_image(path: Path, name: str = "example.com/app") -> Path:
    app = {"exec": ["/bin/app"], "user": "0", "group": "0"}
    return write_image(
        path, image_manifest(name, app=app), {"bin": None, "bin/app": "#!/bin/sh\n", "etc": None, "etc/passwd": "root:x:0:0::/:\n"}
    )


def _add(archive: tarfile.TarFile, name: str, content: str | None) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o755
    if content is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = len(content.encode())
        archive.addfile(member, io.BytesIO(content.encode()))
