"""`skim status`: which engine is installed, and whether it runs. For any user; nothing is changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from engine import host
from engine.record import read_engine

if TYPE_CHECKING:
    from engine.layout import Layout
    from engine.record import Engine


class Status(NamedTuple):
    """What runs: `service` and `socket` in systemd's words, the docker pod's UUID, and the file that `docker` leads to (None: nowhere)."""

    engine: Engine | None
    service: str
    socket: str
    pod: str | None
    client: str | None


def look(layout: Layout) -> Status:
    """Raises UserError if the record of the engine is damaged."""
    client = os.path.join(layout.way, "docker/usr/bin/docker")
    return Status(
        engine=read_engine(layout.record),
        service=host.unit_state("docker.service"),
        socket=host.unit_state("docker.socket"),
        pod=_pod(layout),
        client=os.path.realpath(client) if os.access(client, os.X_OK) else None,
    )


def _pod(layout: Layout) -> str | None:
    try:
        with open(layout.pod_uuid, encoding="ascii", errors="replace") as file:
            return file.read().strip() or None
    except OSError:
        return None


def status_text(status: Status) -> str:
    """For people."""
    if status.engine is None:
        return "engine   none: `skim setup` sets up the images that /etc/skim/docker.conf names\n"
    lines = []
    for label, image in zip(("engine", "", ""), reversed(status.engine), strict=True):
        lines.append(f"{label:8} {image.name} {image.version}  {image.id[:19]}")
    lines.append(f"{'docker':8} {status.service}" + (f", pod {status.pod}" if status.pod else ""))
    lines.append(f"{'socket':8} {status.socket}")
    lines.append(f"{'client':8} {status.client or 'missing: run `skim setup`'}")
    return "\n".join(lines) + "\n"


def status_json(status: Status) -> str:
    """One object; `engine` is null if none was set up, else has `stage1`, `containerd` and `docker`."""
    import json

    engine = None if status.engine is None else {role: image._asdict() for role, image in status.engine._asdict().items()}
    return json.dumps({**status._asdict(), "engine": engine}, indent=2) + "\n"
