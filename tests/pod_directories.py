"""Pod directories as stage0 leaves them to stage1, made by hand for tests that need no stage0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

UUID = "7d1a3c5e-0b2f-4c68-9a31-5e8f6d2b4c10"


def image_manifest(name: str, **fields: Any) -> dict[str, Any]:
    """An image manifest; `annotations` is a mapping."""
    annotations = fields.pop("annotations", {})
    return {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [{"name": "version", "value": "1.0"}, {"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
        "annotations": [{"name": key, "value": value} for key, value in annotations.items()],
        **fields,
    }


def app_section(*exec_words: str, **fields: Any) -> dict[str, Any]:
    return {"exec": list(exec_words), "user": "0", "group": "0", **fields}


def app_entry(name: str, app: dict[str, Any] | None, **fields: Any) -> dict[str, Any]:
    annotations = fields.pop("annotations", {})
    entry = {
        "name": name,
        "image": {"name": f"example.com/{name}", "id": "sha512-" + "0" * 64},
        "annotations": [{"name": key, "value": value} for key, value in annotations.items()],
        **fields,
    }
    return entry if app is None else {**entry, "app": app}


def make_pod(directory: Path, *entries: dict[str, Any], images: dict[str, dict[str, Any]] | None = None, **fields: Any) -> Path:
    """Write the manifests and an empty root for each app; returns the pod directory. `images` maps an app to its image manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {"acVersion": "1.30.0", "acKind": "PodManifest", "apps": list(entries), **fields}
    (directory / "pod").write_text(json.dumps(manifest))
    for entry in entries:
        home = directory / "stage1/rootfs/opt/stage2" / entry["name"]
        (home / "rootfs").mkdir(parents=True)
        image = (images or {}).get(entry["name"]) or image_manifest(entry["image"]["name"])
        (home / "manifest").write_text(json.dumps(image))
    (directory / "stage1/rootfs/rkt/status").mkdir(parents=True)
    return directory


def app_root(pod: Path, app: str) -> Path:
    return pod / "stage1/rootfs/opt/stage2" / app / "rootfs"


def add_program(root: Path, path: str, content: str = "\x7fELF") -> Path:
    """An executable file at the in-image path."""
    program = root / path.lstrip("/")
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(content)
    program.chmod(0o755)
    return program
