"""Hosts as directories, for the doctor's unit tests: what `engine.doctor` reads, and nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from engine.doctor.finding import Check
from engine.doctor.probe import Probe
from engine.layout import Layout


def probe(root: Path, files: Mapping[str, object] | None = None, *, user: int = 0) -> Probe:
    """A host below `root` with those files; a name that ends in / is a directory, content that begins with -> a link."""
    for name, content in (files or {}).items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content.removeprefix("->"))
        else:
            path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
            if "/bin/" in name or "/sbin/" in name:
                path.chmod(0o755)
    return Probe(Layout(root=str(root)), user=user)


def config(*options: str) -> bytes:
    """/proc/config.gz: `A` and `B=m`."""
    return gzip.compress("".join(f"CONFIG_{option if '=' in option else option + '=y'}\n" for option in options).encode())


def mountinfo(*mounts: str) -> str:
    """/proc/self/mountinfo: `target fstype [options]`."""
    lines = []
    for number, words in enumerate((mount.split() for mount in mounts), 20):
        lines.append(f"{number} 1 0:{number} / {words[0]} rw shared:1 - {words[1]} {words[1]} {words[2] if len(words) > 2 else 'rw'}\n")
    return "".join(lines)


def by_id(checks: list[Check]) -> dict[str, Check]:
    """Checks by identifier; none twice, none that is not ok without a word of what to do."""
    found = {check.id: check for check in checks}
    assert len(found) == len(checks), [check.id for check in checks]
    for check in checks:
        assert check.status in ("ok", "note", "warning", "error")
        assert bool(check.do) == (check.status != "ok"), check
        assert "\n" not in check.what + check.do
    return found
