"""`rkt image gc` (contract section 7.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from appc.pod import parse_pod_manifest
from linux.mount import mount_points
from poddir import layout, pods
from poddir.locks import KeyLock
from stage0.image_commands.rm import remove_images
from stage0.output import describe
from stage0.store import Store, now
from stage0.times import SECOND
from stage0.tree_store import TreeStore

if TYPE_CHECKING:
    from poddir.pods import Pod
    from stage0.context import Context
    from stage0.flags import FlagSet

DESCRIPTION = """Removes rendered images that no pod refers to, and images that have not been used for the grace period.
What is mounted stays, and what is listed in a file below cas/roots of the data directory.

Meant to be run from a timer. --grace-period=0s removes all images that no running pod uses."""


def declare(flags: FlagSet) -> None:
    """--grace-period."""
    flags.duration("grace-period", "duration to wait since an image was last used before removing it", 24 * 3600 * SECOND)


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Collect trees, then images."""
    store = Store(context.data_directory)
    trees = TreeStore(store)
    kept = set(store.kept())
    _collect_trees(context, trees, kept)
    kept |= _images_of_running_pods(context.data_directory, trees) | _images_of_mounted_trees(trees)
    limit = now() - flags.value("grace-period")
    damaged: list[UserError] = []
    images = sorted(store.images(damaged), key=lambda image: image.last_used)
    for error in damaged:
        context.log.error("unable to read an image", error)
    old = [image.key for image in images if image.last_used < limit and image.key not in kept]
    store.remove_scratch_files()
    store.remove_strays()
    return remove_images(store, old, context.log)


def _collect_trees(context: Context, trees: TreeStore, kept: set[str]) -> None:
    # Held exclusively, this lock keeps pods from being prepared, and so from referring to a tree that is about to go.
    with KeyLock(layout.locks_directory(context.data_directory), "prepareLock", shared=False):
        referenced: set[str] = set()
        for pod in pods.walk(context.data_directory, pods.COMMON_DIRECTORIES):
            referenced |= _trees_of(pod)
        for tree_id in trees.tree_ids():
            if tree_id in referenced or _image_of(trees, tree_id) in kept or mount_points(tree_id):
                continue
            try:
                trees.remove(tree_id)
            except OSError as error:
                context.log.say(f'error removing treestore "{tree_id}": {describe(error)}')
            else:
                context.log.say(f'removed treestore "{tree_id}"')


def _trees_of(pod: Pod) -> set[str]:
    """The trees that a pod was prepared with."""
    found = {_read(os.path.join(pod.path, layout.STAGE1_TREE_STORE_ID))}
    try:
        apps = os.listdir(os.path.join(pod.path, layout.APPS_INFO))
    except FileNotFoundError:
        apps = []
    found |= {_read(layout.app_tree_store_id(pod.path, app)) for app in apps}
    return found


def _images_of_running_pods(data_directory: str, trees: TreeStore) -> set[str]:
    """Those of the apps, and (which rkt forgets) that of stage1, which the next start will ask for by its ID."""
    keys: set[str] = set()
    for pod in pods.walk(data_directory, ("run",)):
        if pod.state != pods.RUNNING:
            continue
        try:
            manifest = parse_pod_manifest(_read(layout.pod_manifest(pod.path)))
        except UserError as error:
            raise UserError(f"failed to get list of images for running pods: pod {pod.uuid}: {error}") from error
        keys |= {app.image.id for app in manifest.apps}
        keys |= {_image_of(trees, tree_id) for tree_id in _trees_of(pod) if tree_id}
    return keys


def _images_of_mounted_trees(trees: TreeStore) -> set[str]:
    """Somebody uses a tree without a pod: `skim setup` keeps the installed engine mounted, for the client and for the next start."""
    return {_image_of(trees, tree_id) for tree_id in trees.tree_ids() if mount_points(tree_id)}


def _image_of(trees: TreeStore, tree_id: str) -> str:
    return _read(os.path.join(trees.path(tree_id), "image"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
