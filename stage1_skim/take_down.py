"""Undoing what `execute` did, by the pod's UUID alone and whatever of it was done: also after a reboot, a crash, or a second time.

What stage0 mounted is stage0's to unmount.
"""

from __future__ import annotations

import errno
import fcntl
import os

from linux import mount
from poddir import layout
from stage1_skim.places import (
    IMAGES_DIRECTORY,
    LAYERS_DIRECTORY,
    LIBRARIES_DIRECTORY,
    LOCKS_DIRECTORY,
    PUBLIC_DIRECTORY,
    public_directory,
    unit_suffixes,
)

_JOURNAL_STATE = "/run/systemd/units"
_LIBRARY_IN_IMAGE = "usr/lib/skim"


def undo(uuid: str, directory: str) -> None:
    """All but the unit files, which `remove_units` removes when systemd has let go of them."""
    _unpoint_names(uuid)
    ways = public_directory(uuid)
    for name in entries(ways):
        _unmount_all(os.path.join(ways, name))
        remove_directory(os.path.join(ways, name))
    remove_directory(ways)
    _drop_libraries()
    _drop_views()
    unmount_volumes(uuid, directory)


def _unmount_all(path: str) -> None:
    """What is mounted there, with all that is mounted in it. At once, without reading the host's whole table of mounts: a way is a second
    view of what is mounted in the pod, and who still uses it keeps what it uses."""
    while True:
        try:
            mount.unmount(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def unmount_volumes(uuid: str, directory: str) -> None:
    """Volumes in the apps' roots, which are mounts below mounts of stage0's, and in the ways to them."""
    ways = public_directory(uuid) + "/"
    apps = os.path.join(layout.stage1_rootfs(directory), layout.STAGE2) + "/"
    for point in reversed(mount.mount_points(uuid if os.path.basename(directory) == uuid else "")):
        in_way = point.target.startswith(ways) and "/" in point.target[len(ways) :]
        if in_way or (point.target.startswith(apps) and "/rootfs/" in point.target[len(apps) :]):
            mount.unmount_below(point.target)


def unit_files(directory: str, uuid: str) -> list[str]:
    """The names of the pod's units in `directory`."""
    suffixes = unit_suffixes(uuid)
    return [name for name in entries(directory) if name.endswith(suffixes)]


def remove_units(directory: str, uuid: str) -> list[str]:
    """Delete the pod's unit files from `directory`, and return the names of those that were there."""
    found = unit_files(directory, uuid)
    for name in found:
        os.unlink(os.path.join(directory, name))
    # What systemd tells the journal of a unit (LogExtraFields= among it) it leaves behind when it forgets the unit.
    for name in unit_files(_JOURNAL_STATE, uuid):
        os.unlink(os.path.join(_JOURNAL_STATE, name))
    return found


def _unpoint_names(uuid: str) -> None:
    """Under a lock: between the look at where a name leads and its removal the next pod may take it."""
    if not any(_leads_to(name, uuid) for name in entries(PUBLIC_DIRECTORY)):
        return
    held = lock(PUBLIC_DIRECTORY)
    try:
        for name in entries(PUBLIC_DIRECTORY):
            if _leads_to(name, uuid):
                os.unlink(os.path.join(PUBLIC_DIRECTORY, name))
    finally:
        os.close(held)


def _leads_to(name: str, uuid: str) -> bool:
    try:
        return os.readlink(os.path.join(PUBLIC_DIRECTORY, name)) == uuid
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return False


def lock(directory: str) -> int:
    """Who changes what several pods share in `directory` holds this, until the descriptor is closed.

    Not the directory itself: whoever can open that can lock it too, and would hold up every pod of the host.
    """
    path = os.path.join(LOCKS_DIRECTORY, os.path.basename(directory))
    os.makedirs(PUBLIC_DIRECTORY, mode=0o755, exist_ok=True)
    for own in (LOCKS_DIRECTORY, path):
        try:
            os.mkdir(own, 0o700)
        except FileExistsError:
            pass
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _drop_libraries() -> None:
    """Unmount every library directory that no pod's image, and no engine's, has any more."""
    if not os.path.isdir(LIBRARIES_DIRECTORY):
        return
    held = lock(LIBRARIES_DIRECTORY)
    try:
        for digest in entries(LIBRARIES_DIRECTORY):
            if not _is_used(digest):
                target = os.path.join(LIBRARIES_DIRECTORY, digest)
                mount.unmount_below(target)
                remove_directory(target)
    finally:
        os.close(held)


def _is_used(digest: str) -> bool:
    for owner in entries(PUBLIC_DIRECTORY):
        ways = os.path.join(PUBLIC_DIRECTORY, owner)
        if ways in (LIBRARIES_DIRECTORY, LOCKS_DIRECTORY) or os.path.islink(ways):
            continue
        if any(os.path.isdir(os.path.join(ways, app, _LIBRARY_IN_IMAGE, digest)) for app in entries(ways)):
            return True
    return False


def _drop_views() -> None:
    if os.path.isdir(IMAGES_DIRECTORY) or os.path.isdir(LAYERS_DIRECTORY):
        from stage1_skim.views import drop_unused

        drop_unused()


def entries(directory: str) -> list[str]:
    """The names in it, sorted; none if there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_directory(path: str) -> None:
    """If it is there and empty: what is mounted or was put there by somebody else stays."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY, errno.ENOTDIR):
            raise
