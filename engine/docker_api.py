"""What a running dockerd says of itself, asked over its socket: no client of its version need be here."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.layout import Layout

_SECONDS = 10.0


def get(layout: Layout, path: str) -> Any:
    """The answer to GET `path`, as JSON says it; None if there is no answer. To ask a socket that systemd holds starts Docker."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(layout.at("/run/docker.sock"))
            # By HTTP/1.0 the answer comes in one piece and ends with the connection.
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return json.loads(body) if head.split(b" ")[1:2] == [b"200"] else None
    except (OSError, ValueError):
        return None
