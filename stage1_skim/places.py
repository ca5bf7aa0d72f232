"""Names on the host that follow from a pod's UUID, and where they are. `stop` and `gc` know a pod by nothing else."""

from __future__ import annotations

import os

from poddir import layout

UNIT_DIRECTORY = "/run/systemd/system"
PUBLIC_DIRECTORY = "/run/skim"
LIBRARIES_DIRECTORY = f"{PUBLIC_DIRECTORY}/lib"
IMAGES_DIRECTORY = f"{PUBLIC_DIRECTORY}/i"  # short: these paths are written over others
CACHES_DIRECTORY = f"{PUBLIC_DIRECTORY}/c"
LAYERS_DIRECTORY = "/var/lib/skim/relocated"
LOCKS_DIRECTORY = f"{PUBLIC_DIRECTORY}/.lock"
RESERVED_NAMES = ("lib", "engine", "i", "c")

_STOP_REQUEST = "rkt/stop-requested"  # in the stage1 rootfs


def scope_name(uuid: str) -> str:
    return f"rkt-{uuid}.scope"


def slice_name(uuid: str) -> str:
    """Below system.slice; the dashes of the UUID would be read as levels of their own (systemd.slice(5))."""
    return f"system-rkt-{uuid.replace('-', '')}.slice"


def service_name(app: str, uuid: str) -> str:
    return f"{app}-rkt-{uuid}.service"


def socket_name(app: str, uuid: str) -> str:
    return f"{app}-rkt-{uuid}.socket"


def unit_suffixes(uuid: str) -> tuple[str, ...]:
    """How the names of the pod's own unit files end."""
    return (f"-rkt-{uuid}.service", f"-rkt-{uuid}.socket")


def stop_request(directory: str) -> str:
    """The file that says that the pod is to stop, for a `run` that is not yet in its scope."""
    return os.path.join(layout.stage1_rootfs(directory), _STOP_REQUEST)


def public_directory(uuid: str) -> str:
    return os.path.join(PUBLIC_DIRECTORY, uuid)
