"""Which host directories and files are mounted where in the apps' roots (contract sections 4.5 and 5.8). Pure: nothing is mounted here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.pod import EMPTY_VOLUME_MODE, Volume
from linux import inside
from poddir import annotations as names
from poddir import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.app import MountPoint
    from stage1_skim.pod import Pod, PodApp


class EmptyVolume(NamedTuple):
    """A directory of the pod's own to make; `filled_from` is the image's directory that a Docker image expects to find in it, if it has
    one: then mode and owner are that directory's."""

    path: str
    mode: int
    uid: int
    gid: int
    filled_from: str | None


class VolumeMount(NamedTuple):
    """`path` is inside the app's root `root`, free of links as far as the image goes; a volume mounted before may bring more of them."""

    source: str
    root: str
    path: str
    read_only: bool
    recursive: bool
    empty: EmptyVolume | None

    @property
    def target(self) -> str:
        return self.root + self.path


class AppVolumes(NamedTuple):
    """One app's mounts, parents before what is below them, and what the user should know."""

    mounts: tuple[VolumeMount, ...]
    warnings: tuple[str, ...]


def app_volumes(pod: Pod, app: PodApp) -> AppVolumes:
    """Mounts of the app's entry first, then its mount points that none of them covers. Raises UserError for a volume that is not there."""
    pod_volumes = {volume.name: volume for volume in pod.manifest.volumes}
    # By where they are, not by how they are written: with a link from /lib to /usr/lib, /lib/x is below /usr/lib.
    points: dict[str, MountPoint] = {}
    for point in app.app.mount_points:
        points.setdefault(_resolved(app, point.path), point)
    planned: dict[str, VolumeMount] = {}
    warnings = []
    for mount in app.entry.mounts:
        path = _resolved(app, mount.path)
        volume = mount.app_volume or pod_volumes.get(mount.volume)
        if volume is None:
            raise UserError(f'app "{app.name}": dangling mount point {mount.path!r}: volume {mount.volume!r} not found')
        meant = points.get(path) or next((point for point in app.app.mount_points if point.name == volume.name), None)
        planned.setdefault(path, _planned(pod, app, volume, path, read_only=meant.read_only if meant else False))
    for path, point in points.items():
        if path in planned:
            continue
        volume = pod_volumes.get(point.name)
        if volume is None:
            volume = Volume(name=f"{app.name}-{point.name}", kind="empty", mode=EMPTY_VOLUME_MODE, uid=0, gid=0)
            warnings.append(f'app "{app.name}": no volume for mount point {point.name!r}: it gets an empty one of its own')
            filled = app.image.annotation(names.IMAGE_DOCKER_REPOSITORY) is not None
            planned[path] = _planned(pod, app, volume, path, read_only=point.read_only, filled=filled)
        else:
            planned[path] = _planned(pod, app, volume, path, read_only=point.read_only)
    return AppVolumes(mounts=tuple(planned[path] for path in sorted(planned)), warnings=tuple(warnings))


def _resolved(app: PodApp, path: str) -> str:
    """Where a mount point is in the image: absolute, without dots (as rkt cleans them, before any link is looked at) and links."""
    return inside.resolve(app.root, os.path.normpath("/" + path.lstrip("/")))


def _planned(pod: Pod, app: PodApp, volume: Volume, path: str, *, read_only: bool, filled: bool = False) -> VolumeMount:
    """`path` is resolved."""
    if path == "/":
        raise UserError(f'app "{app.name}": volume {volume.name!r} cannot be mounted on the root of the image')
    empty = None
    if volume.kind == "host":
        source = volume.source or ""
        if not os.path.exists(source):
            raise UserError(f"volume {volume.name!r}: {source} does not exist on the host", hint="create it, or name another source")
        if os.path.exists(app.root + path) and os.path.isdir(app.root + path) != os.path.isdir(source):
            kinds = ("a directory", "a file") if os.path.isdir(source) else ("a file", "a directory")
            raise UserError(f'app "{app.name}": volume {volume.name!r} is {kinds[0]}, and {path} in the image is {kinds[1]}')
    else:
        source = layout.shared_volume(pod.directory, volume.name)
        empty = _empty_volume(source, volume, app.root + path if filled else "")
    return VolumeMount(
        source=source,
        root=app.root,
        path=path,
        read_only=volume.read_only if volume.read_only is not None else read_only,
        recursive=volume.recursive is not False,
        empty=empty,
    )


def _empty_volume(source: str, volume: Volume, image_directory: str) -> EmptyVolume:
    if os.path.isdir(image_directory):
        status = os.stat(image_directory)
        return EmptyVolume(path=source, mode=status.st_mode & 0o7777, uid=status.st_uid, gid=status.st_gid, filled_from=image_directory)
    mode = int(volume.mode or EMPTY_VOLUME_MODE, 8)
    return EmptyVolume(path=source, mode=mode, uid=volume.uid or 0, gid=volume.gid or 0, filled_from=None)


def empty_volumes(mounts: tuple[VolumeMount, ...]) -> Iterator[EmptyVolume]:
    """What is to be made before the mounts, once each."""
    seen = set()
    for mount in mounts:
        if mount.empty and mount.empty.path not in seen:
            seen.add(mount.empty.path)
            yield mount.empty
