"""Image archives for tests, made by the standard library's tarfile, which lets anything through."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

MANIFEST: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/app",
    "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}, {"name": "version", "value": "1.0.0"}],
    "app": {"exec": ["/bin/hello"], "user": "0", "group": "0"},
}


def manifest_bytes(**changes: object) -> bytes:
    return json.dumps({**MANIFEST, **changes}).encode()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def directory(name: str, **fields: Any) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, link=target)


def image_bytes(
    *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], manifest: bytes | None = None, form: int = tarfile.PAX_FORMAT
) -> bytes:
    """rootfs, the members (with their content), the manifest unless it is empty."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        archive.addfile(directory("rootfs"))
        for item in members:
            info, content = item if isinstance(item, tuple) else (item, b"")
            info.size = len(content) if content else info.size
            archive.addfile(info, io.BytesIO(content))
        text = manifest_bytes() if manifest is None else manifest
        if text:
            archive.addfile(member("manifest", size=len(text)), io.BytesIO(text))
    return buffer.getvalue()


def write_image(path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], manifest: bytes | None = None) -> str:
    path.write_bytes(image_bytes(*members, manifest=manifest))
    return str(path)
