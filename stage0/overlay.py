"""Overlay mounts: whether they are possible, and the directories that they need (contract sections 1.4, 2.1 and 2.4)."""

from __future__ import annotations

import os

from linux import mount
from poddir import layout
from poddir.pods import make_directories

from .output import Failure

# What cannot hold an overlay's upper layer. rkt knows the first two; on an overlay its mount would fail.
_UNSUPPORTED_FILE_SYSTEMS = ("aufs", "zfs", "overlay")


def unsupported_reason(directory: str) -> str | None:
    """Why pods in `directory` cannot use overlay; None if they can. Raises OSError."""
    if not _kernel_has_overlay():
        _load_module()
        if not _kernel_has_overlay():
            return "overlay entry not present in /proc/filesystems"
    fstype = _file_system(directory)
    if fstype in _UNSUPPORTED_FILE_SYSTEMS:
        return f"unsupported filesystem: {fstype}"
    return None


def _kernel_has_overlay() -> bool:
    try:
        with open("/proc/filesystems", encoding="ascii") as lines:
            return "nodev\toverlay\n" in lines
    except OSError:
        return False


def _load_module() -> None:
    from linux.process import ProgramError, run

    try:
        run(["modprobe", "overlay"], check=False, capture=True)
    except ProgramError:
        pass  # there is no modprobe; what counts is what /proc/filesystems says afterwards


def _file_system(directory: str) -> str:
    """The type of the file system that holds `directory`."""
    best, fstype = "", ""
    path = os.path.realpath(directory)
    for point in mount.mount_points():
        inside = path == point.target or path.startswith(point.target.rstrip("/") + "/")
        if inside and len(point.target) >= len(best):
            best, fstype = point.target, point.fstype
    return fstype


def mount_overlay(lower: str, upper: str, work: str, target: str) -> None:
    """Mount an overlay in the mount namespace that this process is in. Raises OSError."""
    mount.overlay(target, lower=(lower,), upper=upper, work=work)


def render_overlay(lower: str, pod: str, tree_id: str, destination: str, app: str, group: int) -> None:
    """Mount the overlay over a rendered image (`lower`) on `destination`/rootfs; `app` is "" for stage1. Raises Failure.

    `group`: what may read the overlay's directory, -1 for no change; rkt's `status` reads the upper layer as group rkt.
    """
    try:
        target, upper, work = _prepare_directories(lower, pod, tree_id, destination, app, group)
    except OSError as error:
        raise Failure("problem preparing overlay directories") from error
    try:
        mount_overlay(lower, upper, work, target)
    except OSError as error:
        raise Failure("problem mounting overlay filesystem") from error


def _prepare_directories(lower: str, pod: str, tree_id: str, destination: str, app: str, group: int) -> tuple[str, str, str]:
    mode = os.stat(lower).st_mode & 0o7777
    target = os.path.join(destination, "rootfs")
    make_directories(target, mode)
    overlay = os.path.join(pod, layout.OVERLAY)
    make_directories(overlay, layout.DIRECTORY_MODE)
    # The pod directory may carry the setgid bit of its parents; what the apps write must not.
    os.chmod(overlay, layout.DIRECTORY_MODE)
    directory = layout.overlay_directory(pod, tree_id)
    make_directories(directory, layout.DIRECTORY_MODE)
    os.chown(directory, -1, group)
    upper, work = layout.overlay_upper(pod, tree_id, app), layout.overlay_work(pod, tree_id, app)
    make_directories(upper, mode)
    make_directories(work, layout.DIRECTORY_MODE)
    return target, upper, work
