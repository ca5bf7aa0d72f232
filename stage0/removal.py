"""The end of a pod: stage1's gc, unmounting, deletion (contract section 3.2).

Nothing is deleted through a mount, nor while anything is mounted below the pod: an app's volumes are the user's data.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux import mount
from linux.files import open_directory_here
from linux.process import run_entrypoint
from linux.steps import reached
from poddir import layout, status

from .output import Failure, quote
from .overlay import mount_overlay
from .stage1 import gc_arguments, read_stage1
from .stop_command import status_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from poddir.pods import Pod

    from .context import Context

# Directories that are open at a time while a tree is deleted.
_DEEPEST = 100


def delete(context: Context, pod: Pod) -> bool:
    """Delete a pod that is garbage. Whatever goes wrong is told, and a later gc can try again; whether the pod is gone.

    Waits for another process that deletes the same pod.
    """
    pod.lock()
    if pod.deleted():
        return True
    try:
        collected = pod.directory == "exited-garbage" and _collect(context, pod)
        _unmount(pod)
        if collected:
            _note_collected(pod)
            reached("collected")
        _delete_files(pod)
    except (UserError, OSError) as error:
        context.log.failure(error)
        return False
    return True


def _collect(context: Context, pod: Pod) -> bool:
    """Run stage1's gc, which needs its file system even after a reboot; whether it did and worked.

    A pod that never got as far as that, or that it has collected, has nothing for it to do.
    """
    if not os.path.isdir(layout.stage1_rootfs(pod.path)):
        return False
    try:
        mounted = _mount_stage1(context, pod)
    except (UserError, OSError) as error:
        context.log.error("skipping stage1 GC", error)
        return False
    try:
        arguments = gc_arguments(read_stage1(pod.path), pod.uuid, debug=context.debug, local_config=context.local_config)
        context.log.diagnostic(f"Execing [{' '.join(arguments)}]")
        sys.stdout.flush()
        ended = run_entrypoint(arguments, directory=pod.path, env=os.environ, discard_output=True)
        if ended != 0:
            raise UserError(status_text(ended))
    except (UserError, OSError) as error:
        context.log.error(f"problem performing stage1 GC on {quote(pod.uuid)}", error)
        return False
    finally:
        if mounted:
            mount.unmount(layout.stage1_rootfs(pod.path), mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    return True


def _note_collected(pod: Pod) -> None:
    """Let the next try, should this one be cut off, not look for a gc whose files are half deleted."""
    os.rename(layout.stage1_rootfs(pod.path), _collected_rootfs(pod))


def _collected_rootfs(pod: Pod) -> str:
    return layout.stage1_rootfs(pod.path) + ".collected"


def _mount_stage1(context: Context, pod: Pod) -> bool:
    """Mount stage1's overlay where it is missing, as after a reboot; whether it was. The apps' overlays stay unmounted."""
    if not status.uses_overlay(pod.path):
        return False
    rootfs = layout.stage1_rootfs(pod.path)
    if os.stat(rootfs).st_dev != os.stat(os.path.dirname(rootfs)).st_dev:  # an overlay is a device of its own
        return False
    tree_id = status.stage1_tree_id(pod.path)
    try:
        mount_overlay(
            layout.tree_rootfs(context.data_directory, tree_id),
            layout.overlay_upper(pod.path, tree_id),
            layout.overlay_work(pod.path, tree_id),
            rootfs,
        )
    except OSError as error:
        raise Failure("error mounting stage1") from error
    return True


def _unmount(pod: Pod) -> None:
    """Unmount everything below the pod.

    Stage1's root goes in one step with all that is mounted in it. What still is there after that is made private first.
    """
    path = os.path.realpath(pod.path)
    try:
        _detach_root(layout.stage1_rootfs(path), mount.mount_points(pod.uuid))
        if left_over := mount.mount_points(pod.uuid):
            for other in _other_ways(path, pod.uuid, [point.target for point in left_over]):
                _detach(layout.stage1_rootfs(other))
            for target in mount.mounts_below(path):
                mount.mount("none", target, None, mount.MS_PRIVATE)
            mount.unmount_below(path)
            left = mount.mounts_below(path)
            if left:
                raise UserError(f"{left[0]} is still mounted")
    except (UserError, OSError) as error:
        raise Failure(f"GC of leftover mounts for pod {quote(pod.uuid)} failed") from error


def _detach_root(rootfs: str, points: list[mount.MountPoint]) -> None:
    """Unmount stage1's root and all in it, here and wherever these mounts were made, too, because the data directory is shared.

    A second name of the data directory may be hidden below its first (`mount --bind /var /var`): only the kernel finds what is there.
    What is not an overlay of ours is made private before, as unmounting below a shared mount would unmount the host's, too.
    """
    for point in points:
        if point.target.startswith(rootfs + "/") and not _is_app_overlay(point, rootfs):
            _tolerate_absence(lambda target: mount.mount("none", target, None, mount.MS_PRIVATE), point.target)
    _tolerate_absence(lambda target: mount.unmount(target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW), rootfs)


def _is_app_overlay(point: mount.MountPoint, rootfs: str) -> bool:
    parts = point.target[len(rootfs) + 1 :].split("/")
    return point.fstype == "overlay" and len(parts) == 4 and parts[:2] == ["opt", "stage2"] and parts[3] == "rootfs"


def _other_ways(path: str, uuid: str, targets: list[str]) -> set[str]:
    """Other names of the pod's directory that have mounts below them, which our unmounting has not reached."""
    found = set()
    for target in targets:
        before, mentioned, _ = target.partition(uuid)
        other = before + mentioned
        try:
            if other != path and os.path.samefile(other, path):
                found.add(other)
        except OSError:
            continue  # a file of that name, such as a way into the pod that is gone meanwhile
    return found


def _detach(path: str) -> None:
    """Nothing where nothing is mounted. Who still uses what was mounted there keeps it until then."""
    _tolerate_absence(lambda target: mount.mount("none", target, None, mount.MS_PRIVATE | mount.MS_REC), path)
    _tolerate_absence(lambda target: mount.unmount(target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW), path)


def _tolerate_absence(act: Callable[[str], None], target: str) -> None:
    """`act` on a mount that may not be there (any more)."""
    try:
        act(target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def _delete_files(pod: Pod) -> None:
    """The written files first: if that fails, the pod's manifest is still there for another try."""
    for path, what in ((_stage1_files(pod), "pod rootfs"), (_collected_rootfs(pod), "pod rootfs"), (pod.path, "pod")):
        try:
            if path:
                delete_tree(path)
        except OSError as error:
            raise Failure(f"unable to remove {what} {quote(pod.uuid)}") from error


def _stage1_files(pod: Pod) -> str | None:
    try:
        return status.stage1_files(pod.path)
    except OSError:
        return None


def delete_tree(path: str) -> None:
    """Delete a directory and all below it; one that is not there is no error. Raises OSError: EXDEV at the first thing mounted there.

    An app may have nested its directories thousands deep, which is more than a process has descriptors for and a path may name: what lies
    too deep is moved up to the top, and deleted there.
    """
    try:
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        name = os.path.basename(path)
        top = open_directory_here(name, parent)
        try:
            while _empty(top, top, 0):
                pass
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


def _empty(directory: int, top: int, depth: int) -> bool:
    """Delete what is in a directory; whether something has been moved to `top` instead, which is to be emptied again."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved = False
    for name, inode, is_directory in found:
        if not is_directory:
            _unlink(name, directory)
        elif depth == _DEEPEST:
            os.rename(name, f".deleted-{inode}", src_dir_fd=directory, dst_dir_fd=top)
            moved = True
        else:
            below = open_directory_here(name, directory)
            try:
                moved |= _empty(below, top, depth + 1)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=directory)
    return moved


def _unlink(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
