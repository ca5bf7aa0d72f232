"""Carrying a plan out: files, mounts, the apps' public ways in, libraries. `take_down` undoes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux import inside, mount
from linux.steps import reached
from stage1_skim import volumes
from stage1_skim.places import LIBRARIES_DIRECTORY, PUBLIC_DIRECTORY
from stage1_skim.take_down import lock

if TYPE_CHECKING:
    from stage1_skim.foreign import ForeignImage
    from stage1_skim.plan import File, Library, Plan
    from stage1_skim.pod import Pod
    from stage1_skim.volumes import EmptyVolume, VolumeMount


def set_up(pod: Pod, plan: Plan) -> None:
    """Everything up to the unit files. Raises UserError; the caller then undoes it."""
    try:
        for file in plan.files:
            _write(file)
        reached("files")
        views = _relocate([app.foreign for app in plan.apps if app.foreign])
        for app in plan.apps:
            for empty in volumes.empty_volumes(app.mounts):
                _make_empty_volume(empty)
            for volume in app.mounts:
                _mount_volume(volume)
        reached("volumes")
        _open_ways(pod, plan)
        reached("ways")
        for app in plan.apps:
            if app.library:
                _provide_library(app.library)
        _provide(views)
        if pod.name:
            _point_name(pod)
        reached("libraries")
        for file in plan.unit_files:
            _write(file)
        reached("units")
    except OSError as error:
        raise UserError(f"cannot set the pod up: {error.filename or ''}: {error.strerror}") from None


def _relocate(images: list[ForeignImage]) -> list[tuple[ForeignImage, str]]:
    """With their views. Few pods have any, so what it takes is imported for them alone."""
    if not images:
        return []
    from stage1_skim.views import relocate

    return [(image, relocate(image)) for image in images]


def _provide(views: list[tuple[ForeignImage, str]]) -> None:
    if views:
        from stage1_skim.views import provide

        for image, view in views:
            provide(image, view)


def _write(file: File) -> None:
    os.makedirs(os.path.dirname(file.path), mode=0o755, exist_ok=True)
    try:
        os.unlink(file.path)  # of an image, or of a start that failed: never written through
    except FileNotFoundError:
        pass
    descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as out:
        os.fchmod(descriptor, file.mode)
        out.write(file.text)


def _make_empty_volume(empty: EmptyVolume) -> None:
    os.makedirs(os.path.dirname(empty.path), mode=0o755, exist_ok=True)
    try:
        os.mkdir(empty.path)
    except FileExistsError:
        return  # shared with an app before, or left by an earlier run of this pod
    if empty.filled_from:
        from stage1_skim.copying import copy_tree

        copy_tree(empty.filled_from, empty.path)
    os.chown(empty.path, empty.uid, empty.gid)
    os.chmod(empty.path, empty.mode)


def _mount_volume(volume: VolumeMount) -> None:
    # Once more, now that what is above it is mounted: a volume may hold links as an image does, and they end inside the root as well.
    # Whoever may write there may also change it now, so the way that was found is taken step by step.
    parent, name = inside.open_parent(volume.root, inside.resolve(volume.root, volume.path))
    try:
        try:
            if os.path.isdir(volume.source):
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except FileExistsError:
            pass
        mount.bind_at(volume.source, parent, name, recursive=volume.recursive, read_only=volume.read_only)
    except OSError as error:
        raise OSError(error.errno, error.strerror, volume.target) from None
    finally:
        os.close(parent)


def _open_ways(pod: Pod, plan: Plan) -> None:
    """Bind every app's root where anybody may walk: the directories above it in the pod are closed to all but root (contract 1.4).

    This is the way that the app itself takes, so a read-only root is read-only here; its volumes are mounts of their own.
    """
    read_only = {app.name for app in plan.apps if app.read_only}
    for directory in (PUBLIC_DIRECTORY, pod.public):
        os.makedirs(directory, mode=0o755, exist_ok=True)
        os.chmod(directory, 0o755)
    for app in pod.apps:
        way = os.path.join(pod.public, app.name)
        os.makedirs(way, mode=0o755, exist_ok=True)
        mode = os.stat(app.root).st_mode & 0o7777
        if mode & 0o055 != 0o055:
            os.chmod(app.root, mode | 0o055)
        mount.bind(app.root, way, recursive=True)
        if app.name in read_only:
            mount.make_read_only(way)


def _point_name(pod: Pod) -> None:
    """`/run/skim/<name>` leads to this pod from now on; whoever looks sees the old target or the new one, never none."""
    path = os.path.join(PUBLIC_DIRECTORY, pod.name)
    if os.path.isdir(path) and not os.path.islink(path):
        raise UserError(f"{path} is a directory, so a pod cannot be called {pod.name!r}")
    temporary = f"{path}.{pod.uuid}"
    held = lock(PUBLIC_DIRECTORY)
    try:
        os.symlink(pod.uuid, temporary)
        os.rename(temporary, path)
    finally:
        os.close(held)


def _provide_library(library: Library) -> None:
    """The rendered image serves all pods that share the digest; a pod without overlay has only its own copy to offer."""
    target = os.path.join(LIBRARIES_DIRECTORY, library.digest)
    os.makedirs(LIBRARIES_DIRECTORY, mode=0o755, exist_ok=True)
    held = lock(LIBRARIES_DIRECTORY)
    try:
        if mount.mounts_below(target):
            return
        os.makedirs(target, mode=0o755, exist_ok=True)
        mount.bind(_lower_layer(library.source), target, read_only=True)
    finally:
        os.close(held)


def _lower_layer(path: str) -> str:
    """The same file in the read-only layer of the overlay that it is seen through, or the path itself where there is none."""
    for point in reversed(mount.mount_points()):
        if point.fstype == "overlay" and path.startswith(point.target + "/"):
            for option in point.options.split(","):
                if option.startswith("lowerdir="):
                    lower = option[len("lowerdir=") :] + path[len(point.target) :]
                    return lower if os.path.isdir(lower) else path
    return path
