"""Pods that have ended and are still there."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.names import parse_uuid
from engine.doctor.finding import Check, note, ok, unseen, warning
from poddir import pods
from poddir.layout import DEFAULT_DATA_DIRECTORY, pod_manifest, pods_directory

if TYPE_CHECKING:
    from engine.doctor.probe import Probe

_OVER = (pods.EMBRYO, pods.ABORTED_PREPARE, pods.EXITED, pods.EXITED_GARBAGE, pods.GARBAGE)
_NAME = "skim/pod-name"


class Left(NamedTuple):
    """A pod that is over, in rkt's words for its state; `docker`: whether it was Docker's."""

    uuid: str
    state: str
    docker: bool


class Leftovers(NamedTuple):
    """`set_aside`: UUIDs in /var/lib/skim/old, which the next start of Docker removes."""

    pods: tuple[Left, ...]
    set_aside: tuple[str, ...]
    denied: bool


def gather(probe: Probe) -> Leftovers:
    """Each pod is opened, and its lock asked for, as `rkt list` does; no directory is made, as that would."""
    found = []
    places = [pods_directory(DEFAULT_DATA_DIRECTORY, directory) for directory in pods.STATE_DIRECTORIES]
    for name in sorted({name for place in places for name in probe.names(place)}):
        # Suppressed: a pod that is gone meanwhile, or a directory that is none.
        with suppress(UserError, OSError), pods.open_pod(probe.at(DEFAULT_DATA_DIRECTORY), parse_uuid(name)) as pod:
            if pod.state in _OVER:
                path = f"{pods_directory(DEFAULT_DATA_DIRECTORY, pod.directory)}/{pod.uuid}"
                found.append(Left(pod.uuid, pod.state, _is_docker(probe.text(pod_manifest(path)))))
    aside = tuple(probe.names("/var/lib/skim/old"))
    return Leftovers(tuple(found), aside, bool(probe.denied & {*places, DEFAULT_DATA_DIRECTORY}))


def _is_docker(manifest: str | None) -> bool:
    try:
        annotations = json.loads(manifest or "").get("annotations") or []
        return any(annotation.get("name") == _NAME and annotation.get("value") == "docker" for annotation in annotations)
    except (ValueError, AttributeError):
        return False


def checks(leftovers: Leftovers) -> list[Check]:
    if leftovers.denied:
        return [unseen("pods.left", "pods that have ended, in /var/lib/rkt/pods")]
    found = []
    ours = [pod for pod in leftovers.pods if pod.docker or pod.uuid in leftovers.set_aside]
    others = [pod for pod in leftovers.pods if pod not in ours]
    if ours:
        found.append(
            warning(
                "pods.docker",
                f"docker pods that have ended are left: {_list(ours)}",
                f"`systemctl start skim-collect`, or `rkt rm {ours[0].uuid}`, which says what is in the way; the next start does it, too",
            )
        )
    if others:
        found.append(
            note(
                "pods.left",
                f"pods that have ended are left: {_list(others)}",
                "`rkt gc --grace-period=0s` removes them, when nobody needs what they left",
            )
        )
    return found or [ok("pods.left", "no pod is left over")]


def _list(left: list[Left], most: int = 3) -> str:
    words = [f"{pod.uuid} ({pod.state})" for pod in left[:most]]
    return ", ".join(words) + (f" and {len(left) - most} more" if len(left) > most else "")
