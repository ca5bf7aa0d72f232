"""Relocated roots of foreign images, mounted: layers over rendered images, and the views by which their files name each other.

A layer is made once for a rendered image and stays until that is gone; a view, `/run/skim/i/<key>`, stays while an app's root names it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux import mount
from poddir import layout
from stage1_skim.foreign import LOADER_CACHE, VIEW, read_text
from stage1_skim.places import CACHES_DIRECTORY, IMAGES_DIRECTORY, LAYERS_DIRECTORY, LOCKS_DIRECTORY, PUBLIC_DIRECTORY
from stage1_skim.take_down import entries, lock, remove_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage1_skim.foreign import ForeignImage

_FORMAT = 1  # of what `relocation` makes of the same image; a change of it makes every layer anew
_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_KEY_LENGTH = 4
_MOST_KEYS = 1000


def relocate(image: ForeignImage) -> str:
    """Before anything is mounted in the root. Returns the path of the view, to `provide`. Raises UserError, OSError; can be done twice."""
    if not image.tree:
        return os.path.join(IMAGES_DIRECTORY, _relocate_in_place(image))
    os.makedirs(LAYERS_DIRECTORY, mode=0o755, exist_ok=True)
    held = lock(LAYERS_DIRECTORY)
    try:
        key = _make_layer(image)
    finally:
        os.close(held)
    mount.unmount(image.root)
    mount.overlay(
        image.root,
        lower=(_layer(key), image.tree),
        upper=layout.overlay_upper(image.pod, image.tree_id, image.app),
        work=layout.overlay_work(image.pod, image.tree_id, image.app),
    )
    return os.path.join(IMAGES_DIRECTORY, key)


def provide(image: ForeignImage, view: str) -> None:
    """Make what the root's files name be there; after the app's way in is open, which shows to others that it is in use."""
    key = os.path.basename(view)
    os.makedirs(IMAGES_DIRECTORY, mode=0o755, exist_ok=True)
    held = lock(IMAGES_DIRECTORY)
    try:
        if not mount.mounts_below(view):
            os.makedirs(view, mode=0o755, exist_ok=True)
            _open_to_all(IMAGES_DIRECTORY, view)
            if image.tree:
                mount.overlay(view, lower=(_layer(key), image.tree))
            else:
                mount.bind(image.root, view, read_only=True)
        os.makedirs(CACHES_DIRECTORY, mode=0o755, exist_ok=True)
        _open_to_all(PUBLIC_DIRECTORY, CACHES_DIRECTORY)
        link = os.path.join(CACHES_DIRECTORY, key)
        if not os.path.islink(link):
            os.symlink(view + LOADER_CACHE, link)
    finally:
        os.close(held)


def drop_unused() -> None:
    """Take away the views that no app's root names any more, and layers of rendered images that are gone."""
    if os.path.isdir(IMAGES_DIRECTORY):
        held = lock(IMAGES_DIRECTORY)
        try:
            used = set(_used_views())
            for key in entries(IMAGES_DIRECTORY):
                view = os.path.join(IMAGES_DIRECTORY, key)
                if view not in used:
                    mount.unmount_below(view)
                    remove_directory(view)
            for key in entries(CACHES_DIRECTORY):
                if not os.path.isdir(os.path.join(IMAGES_DIRECTORY, key)):
                    os.unlink(os.path.join(CACHES_DIRECTORY, key))
        finally:
            os.close(held)
    if os.path.isdir(LAYERS_DIRECTORY):
        _drop_layers()


def _used_views() -> Iterator[str]:
    for owner in entries(PUBLIC_DIRECTORY):
        ways = os.path.join(PUBLIC_DIRECTORY, owner)
        if ways in (IMAGES_DIRECTORY, CACHES_DIRECTORY, LOCKS_DIRECTORY) or os.path.islink(ways):
            continue
        for app in entries(ways):
            yield read_text(os.path.join(ways, app) + VIEW)


def _drop_layers() -> None:
    held = lock(LAYERS_DIRECTORY)
    try:
        for key in entries(LAYERS_DIRECTORY):
            directory = os.path.join(LAYERS_DIRECTORY, key)
            tree = read_text(os.path.join(directory, "tree")).partition(" ")[2]
            if not os.path.isdir(tree) and not os.path.ismount(os.path.join(IMAGES_DIRECTORY, key)):
                import shutil

                shutil.rmtree(directory)
    finally:
        os.close(held)


def _layer(key: str) -> str:
    return os.path.join(LAYERS_DIRECTORY, key, "layer")


def _make_layer(image: ForeignImage) -> str:
    """The key of a rendered image's layer, which is made the first time; killed meanwhile, it leaves what the next one begins anew."""
    record = f"{_FORMAT} {image.tree}"
    for key in _keys(image.seed, capital=True):
        directory = os.path.join(LAYERS_DIRECTORY, key)
        found = read_text(os.path.join(directory, "tree"))
        if found == record:
            return key
        if not os.path.isdir(directory):
            break
    unfinished = directory + ".new"
    if os.path.isdir(unfinished):
        import shutil

        shutil.rmtree(unfinished)
    layer = os.path.join(unfinished, "layer")
    os.makedirs(layer, mode=0o755)
    _run(image, image.tree, key, layer)
    with open(os.path.join(unfinished, "tree"), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(record)
    _bring_to_disk(unfinished)
    os.rename(unfinished, directory)
    return key


def _relocate_in_place(image: ForeignImage) -> str:
    """The key. The view's directory is made at once, so that no other pod takes the key."""
    os.makedirs(IMAGES_DIRECTORY, mode=0o755, exist_ok=True)
    for key in _keys(image.seed, capital=False):
        try:
            os.mkdir(os.path.join(IMAGES_DIRECTORY, key), 0o755)
        except FileExistsError:
            continue
        _run(image, image.root, key, None)
        return key
    raise AssertionError("_keys ends by an error")


def _run(image: ForeignImage, root: str, key: str, directory: str | None) -> None:
    from stage1_skim.relocation import Names, Relocation

    where = Names(view=os.path.join(IMAGES_DIRECTORY, key), cache=os.path.join(CACHES_DIRECTORY, key))
    umask = os.umask(0o022)
    try:
        Relocation(root, where, directory).run()
    except UserError as error:
        raise UserError(f'app "{image.app}": image {image.image}: {error.message}', hint=error.hint) from None
    finally:
        os.umask(umask)
    if directory:
        _open_to_all(directory)  # as the apps' own roots are


def _keys(seed: str, *, capital: bool) -> Iterator[str]:
    """Short names, of the seed's choice first. Keys of layers begin with a capital letter, those of copies with a small one."""
    number = int("".join(character for character in seed if character in "0123456789abcdef")[-16:] or "0", 16)
    for attempt in range(_MOST_KEYS):
        value = number + attempt
        first = _KEY_CHARACTERS[(26 if capital else 0) + value % 26]
        value //= 26
        rest = ""
        for _ in range(_KEY_LENGTH - 1):
            rest += _KEY_CHARACTERS[value % 64]
            value //= 64
        yield first + rest
    raise UserError(f"no name is left in {IMAGES_DIRECTORY} for another image", hint="remove images and pods that are not needed: rkt gc")


def _open_to_all(*directories: str) -> None:
    """Anybody may walk there, whatever our umask or the image's builder thought."""
    for directory in directories:
        mode = os.stat(directory).st_mode & 0o7777
        if mode & 0o055 != 0o055:
            os.chmod(directory, mode | 0o055)


def _bring_to_disk(directory: str) -> None:
    from linux.files import sync_file_system

    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(descriptor)
    finally:
        os.close(descriptor)
