"""The tree store: rendered images below `cas/tree` (contract section 2.8). A tree counts only with its file `rendered`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from appc.image_id import key_of_digest, sha512_of
from poddir import layout
from poddir.locks import KeyLock
from stage0.store import make_directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stage0.store import Store

_DIRECTORY_MODE = 0o755


class TreeDamaged(UserError):
    """A rendered image that is not what it was when it was rendered."""


class TreeNotRendered(UserError):
    """An image that has no rendered tree, or none with a hash."""


class TreeStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.directory = os.path.join(store.directory, "tree")
        self._locks = os.path.join(store.directory, "treestorelocks")

    def path(self, tree_id: str) -> str:
        return os.path.join(self.directory, tree_id)

    def rootfs(self, tree_id: str) -> str:
        return layout.tree_rootfs(self._store.data_directory, tree_id)

    def is_rendered(self, tree_id: str) -> bool:
        return os.path.exists(os.path.join(self.path(tree_id), "rendered"))

    def tree_id(self, key: str) -> str:
        """`$TSID` of an image: it changes with what the image depends on. Raises UserError for a dependency that is not stored."""
        manifest = self._store.manifest(key)
        if not manifest.dependencies:
            return tree_id_of([key])
        from stage0.rendering import layers

        return tree_id_of(layer.key for layer in layers(self._store, key))

    def render(self, key: str, *, rebuild: bool = False) -> str:
        """Renders an image unless it is, and returns its tree's id. Raises UserError, OSError; nothing half rendered is left then."""
        tree_id = self.tree_id(key)
        if not rebuild and self.is_rendered(tree_id):
            return tree_id
        make_directory(self.directory, _DIRECTORY_MODE)
        with self._lock(tree_id, shared=False):
            if not rebuild and self.is_rendered(tree_id):
                return tree_id
            self._remove(tree_id)
            try:
                size = self._render(tree_id, key)
            except BaseException:
                self._remove(tree_id)
                self._remove_lock(tree_id)
                raise
        self._store.set_tree_size(key, size)
        return tree_id

    def check(self, tree_id: str) -> None:
        """Whether the rendered files are still the same. Raises TreeNotRendered, TreeDamaged."""
        from stage0.tree_hash import measure_tree

        with self._lock(tree_id, shared=True):
            try:
                with open(os.path.join(self.path(tree_id), "hash"), encoding="ascii", errors="replace") as file:
                    expected = file.read()
            except FileNotFoundError:
                raise TreeNotRendered("cannot read hash file") from None
            found = measure_tree(self.path(tree_id)).hash
        if found != expected:
            raise TreeDamaged(f"wrong tree hash: {found}, expected: {expected}")

    def tree_ids(self) -> list[str]:
        """All trees, whether rendered wholly or in part."""
        try:
            return sorted(entry.name for entry in os.scandir(self.directory) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def remove(self, tree_id: str) -> None:
        """Removes a tree; its image's size no longer counts it. Raises OSError."""
        with self._lock(tree_id, shared=False):
            key = _read(os.path.join(self.path(tree_id), "image"))
            self._remove(tree_id)
            self._remove_lock(tree_id)
        if key:
            self._store.set_tree_size(key, 0)

    def _lock(self, tree_id: str, *, shared: bool) -> KeyLock:
        make_directory(self._locks, _DIRECTORY_MODE)
        return KeyLock(self._locks, tree_id, shared=shared)

    def _remove_lock(self, tree_id: str) -> None:
        """The lock's file, by whoever holds it."""
        lock = os.path.join(self._locks, tree_id)
        if os.path.exists(lock):
            os.unlink(lock)

    def _render(self, tree_id: str, key: str) -> int:
        from linux.files import sync_file_system
        from stage0.rendering import layers, render_into
        from stage0.tree_hash import measure_tree

        tree = self.path(tree_id)
        make_directory(tree, _DIRECTORY_MODE)
        render_into(self._store, layers(self._store, key), tree)
        figures = measure_tree(tree)
        _write(os.path.join(tree, "hash"), figures.hash)
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # All of the tree is on the disk before anything says so.
            sync_file_system(descriptor)
            _write(os.path.join(tree, "rendered"), "")
            _write(os.path.join(tree, "image"), key)
            own = os.fstat(descriptor).st_size + len(figures.hash) + len(key)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return figures.size + own

    def _remove(self, tree_id: str) -> None:
        tree = self.path(tree_id)
        if not os.path.isdir(tree):
            return
        # The marker first: what is removed in part is not rendered.
        try:
            os.unlink(os.path.join(tree, "rendered"))
            sync_directory(tree)
        except FileNotFoundError:
            pass
        from shutil import rmtree

        rmtree(tree)


def tree_id_of(keys: Iterable[str]) -> str:
    """`$TSID` of a flattened dependency list, the upper image first."""
    return layout.TREE_ID_PREFIX + key_of_digest(sha512_of(",".join(keys).encode()))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(content)
    os.chmod(path, 0o644)
