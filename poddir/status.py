"""What a pod directory tells of a pod: times, process, exit statuses, networks (contract sections 1.3 and 3.3)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from . import layout, pods

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.1


def uses_overlay(pod: str) -> bool:
    """Whether the pod was prepared with overlay mounts (else by copying)."""
    return os.path.exists(os.path.join(pod, layout.OVERLAY_PREPARED))


def stage1_tree_id(pod: str) -> str:
    """The tree store ID of the pod's stage1. Raises OSError, also for a file that a power cut left empty or full of zeros."""
    return _read_tree_id(os.path.join(pod, layout.STAGE1_TREE_STORE_ID))


def app_tree_id(pod: str, app: str) -> str:
    """The tree store ID of an app's image, "" for a pod prepared by copying. Raises OSError."""
    try:
        return _read_tree_id(layout.app_tree_store_id(pod, app))
    except FileNotFoundError:
        if uses_overlay(pod):
            raise
        return ""


def stage1_files(pod: str) -> str:
    """Where stage1's written files are, whether its overlay is mounted or not: the upper layer, or the copy. Raises OSError."""
    return layout.overlay_upper(pod, stage1_tree_id(pod)) if uses_overlay(pod) else layout.stage1_rootfs(pod)


def creation_time(pod: pods.Pod) -> int | None:
    """When the pod was prepared, in ns since the epoch; None before that. Raises OSError."""
    if pod.state in (pods.EMBRYO, pods.PREPARING, pods.ABORTED_PREPARE, pods.GONE):
        return None
    try:
        return os.stat(os.path.join(pod.path, layout.POD_CREATED)).st_mtime_ns
    except FileNotFoundError:  # pods of rkt before 1.20
        return os.stat(layout.pod_manifest(pod.path)).st_mtime_ns


def start_time(pod: pods.Pod) -> int | None:
    """When stage1 wrote its `pid` (or `ppid`), in ns since the epoch; None if it did not (yet)."""
    if pod.state != pods.RUNNING and not pod.after_run:
        return None
    for name in (layout.PID, layout.PPID):
        try:
            return os.stat(os.path.join(pod.path, name)).st_mtime_ns
        except FileNotFoundError:
            continue
    return None


def marked_time(pod: pods.Pod) -> int | None:
    """When gc moved the pod to the garbage, in ns since the epoch; None for other pods."""
    if pod.directory not in ("exited-garbage", "garbage"):
        return None
    try:
        return os.lstat(pod.path).st_ctime_ns
    except FileNotFoundError:
        return None


def recorded_pid(pod: str) -> int | None:
    """The number in `pid`, else the one in `ppid`; None if there is neither."""
    number = read_integer(os.path.join(pod, layout.PID))
    return number if number is not None else read_integer(os.path.join(pod, layout.PPID))


def exit_status(pod: str, app: str) -> int | None:
    """An ended app's exit status; None while there is no readable one."""
    try:
        return read_integer(os.path.join(stage1_files(pod), layout.STATUS, app))
    except OSError:
        return None


def networks(pod: str) -> list[dict[str, Any]]:
    """The pod's networks as its stage1 recorded them (keys netName, ip, ifName, …); none for a pod in the host's network."""
    try:
        text = _read(os.path.join(pod, layout.NETWORKS))
    except OSError:
        return []
    import json

    try:
        document = json.loads(text)
    except ValueError:
        return []
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def supervisor_ready(pod: str) -> bool:
    """Whether stage1 says that the pod is up."""
    try:
        return os.readlink(os.path.join(stage1_files(pod), layout.SUPERVISOR_STATUS)) == layout.SUPERVISOR_READY
    except OSError:
        return False


def enterable_pid(pod: pods.Pod) -> int:
    """The process to enter: `pid`, or the only child of `ppid`. Waits while the pod runs without having one. Raises PodError."""
    import time

    while True:
        number = read_integer(os.path.join(pod.path, layout.PID))
        if number is not None:
            return number
        parent = read_integer(os.path.join(pod.path, layout.PPID))
        children = [] if parent is None else _children(parent)
        if len(children) > 1:
            raise pods.PodError(f"too many children of pid {parent}")
        if children:
            return children[0]
        time.sleep(POLL_SECONDS)
        pod.refresh()
        if pod.state != pods.RUNNING:
            raise pods.PodError(f"pod {pod.uuid} is not running anymore")


def wait_finished(pod: pods.Pod, timeout: float | None) -> None:
    """Wait until the pod has ended, or is gone. `timeout` in seconds, None for ever. Raises TimeoutError."""
    from . import locks

    def over() -> bool:
        if not locks.try_shared(pod.descriptor):
            return False
        locks.unlock(pod.descriptor)
        pod.refresh()
        return pod.finished

    _wait(over, timeout)


def wait_ready(pod: pods.Pod, timeout: float | None) -> None:
    """Wait until stage1 says that the pod is up. `timeout` in seconds, None for ever. Raises TimeoutError."""

    def ready() -> bool:
        pod.refresh()
        return supervisor_ready(pod.path)

    _wait(ready, timeout)


def read_integer(path: str) -> int | None:
    """The integer that a file begins with (blanks before it and anything after it are passed over); None if there is none."""
    try:
        words = _read(path).split()
    except OSError:
        return None
    if not words:
        return None
    word = words[0]
    digits = word[1:] if word[0] in "+-" else word
    count = len(digits) - len(digits.lstrip("0123456789"))
    return int(word[: len(word) - len(digits) + count]) if count else None


def _read_tree_id(path: str) -> str:
    text = _read(path)
    if not text.startswith(layout.TREE_ID_PREFIX) or "/" in text or "\0" in text:
        raise OSError(errno.EIO, "there is no tree store ID in it", path)
    return text


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _wait(condition: Callable[[], bool], timeout: float | None) -> None:
    import time

    deadline = None if timeout is None else time.monotonic() + timeout
    while not condition():
        remaining = POLL_SECONDS if deadline is None else deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("context deadline exceeded")
        time.sleep(min(POLL_SECONDS, remaining))


def _children(parent: int) -> list[int]:
    try:
        return [int(word) for word in _read(f"/proc/{parent}/task/{parent}/children").split()]
    except FileNotFoundError:
        return _children_by_scan(parent)


def _children_by_scan(parent: int) -> list[int]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(name))
    return found
