"""Small images for pods that are not Docker: busybox, and a script that is the app."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from appc.archive_writing import write_archive
from appc.image import parse_image_manifest
from pod_directories import image_manifest

BUSYBOX = Path("/bin/busybox")

# Says that it runs, then when it is told to end.
SERVE = """\
echo {name} is up
trap 'echo {name} ends; exit 0' TERM
while :; do /bin/busybox sleep 0.05; done
"""


def write_image(path: Path, script: str, *, name: str = "example.com/app", files: dict[str, str] | None = None, **app: Any) -> Path:
    """An image whose app is `script`, run by its own busybox; `app` are fields of the app section."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        (tree / "bin").mkdir()
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        (tree / "app").write_text("#!/bin/busybox sh\n" + script)
        (tree / "app").chmod(0o755)
        for file, content in (files or {}).items():
            (tree / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (tree / file.lstrip("/")).write_text(content)
        annotations = app.pop("annotations", {})
        section = {"exec": ["/app"], "user": "0", "group": "0", **app}
        manifest = parse_image_manifest(json.dumps(image_manifest(name, app=section, annotations=annotations)))
        write_archive(str(tree), manifest, str(path))
    return path
