"""What the supervisor leaves in the pod directory for `rkt status` and `rkt list` (contract section 3.3).

A note that cannot be written, for want of room perhaps, ends no pod: what is returned then is a line for the user, else "".
"""

from __future__ import annotations

import os

from poddir import layout


def write_status(directory: str, app: str, status: int) -> str:
    """The exit status of an app that has ended."""
    path = layout.app_status(directory, app)
    try:
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(str(status))
        os.rename(path + ".new", path)
    except OSError as error:
        return f'app "{app}": its exit status {status} cannot be noted in {path}: {error.strerror}'
    return ""


def write_ready(directory: str) -> str:
    """That every app is up."""
    link = layout.supervisor_status(directory)
    try:
        if not os.path.islink(link):
            os.symlink(layout.SUPERVISOR_READY, link)
    except OSError as error:
        return f"that the pod is ready cannot be noted in {link}: {error.strerror}"
    return ""
