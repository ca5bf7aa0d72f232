"""An image and its dependencies become one tree of files (contract section 8.3)."""

from __future__ import annotations

import hashlib
import os
import posixpath
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from appc.archive import ArchiveReader, FileSource
from appc.compression import Limits
from appc.errors import ArchiveError, UserError
from appc.image_id import key_of_digest
from appc.tar import DIRECTORY
from stage0.extraction import Extraction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appc.image import Dependency, ImageManifest
    from stage0.store import Store

_HASH_PIECE = 4 << 20
# A blob was held against the limits when it was imported.
_NO_LIMITS = Limits(size=1 << 62, members=1 << 62, names=1 << 62)
_MOST_IMAGES = 1000


class Layer(NamedTuple):
    """An image of a flattened dependency tree; `level` is its distance from the image that is rendered."""

    key: str
    manifest: ImageManifest
    level: int


class DamagedBlob(UserError):
    """A stored archive that no longer has the content that its name says."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"image {key} is damaged in the store: {what}", hint="fetch the image again")


def layers(store: Store, key: str) -> list[Layer]:
    """The image first, then what it depends on; of an image's dependencies the last one listed comes first. Raises UserError."""
    found = [Layer(key=key, manifest=store.manifest(key), level=0)]
    position = 0
    while position < len(found):
        layer = found[position]
        for dependency in layer.manifest.dependencies:
            below = _dependency_key(store, layer, dependency)
            found.insert(position + 1, Layer(key=below, manifest=store.manifest(below), level=layer.level + 1))
        position += 1
        if len(found) > _MOST_IMAGES:
            raise UserError(f"image {key} has more than {_MOST_IMAGES} dependencies, or they form a circle")
    return found


def _dependency_key(store: Store, layer: Layer, dependency: Dependency) -> str:
    try:
        if dependency.image_id is not None:
            return store.resolve_key(dependency.image_id)
        return store.find(dependency.image_name, dependency.labels)
    except UserError as error:
        wanted = dependency.image_id or dependency.image_name
        message = f'image "{layer.manifest.name}" depends on "{wanted}", which is not in the store: {error}'
        raise UserError(message, hint="fetch that image first") from None


def render_into(store: Store, flattened: Sequence[Layer], directory: str) -> None:
    """Fills an empty directory with `manifest` and `rootfs` of the layers. Raises UserError, OSError; the directory is then of no use."""
    claims = _Claims(flattened)
    manifest_path = os.path.join(directory, "manifest")
    with Extraction(directory) as extraction:
        for position, layer in enumerate(flattened):
            _render_layer(store, layer, extraction, claims, position)
        extraction.finish()
    with open(manifest_path, "xb") as file:
        file.write(store.manifest_text(flattened[0].key).encode())
    os.chmod(manifest_path, 0o644)
    rootfs = os.path.join(directory, "rootfs")
    if not os.path.isdir(rootfs):
        os.mkdir(rootfs)
        os.chmod(rootfs, 0o755)


def _render_layer(store: Store, layer: Layer, extraction: Extraction, claims: _Claims, position: int) -> None:
    with store.lock(layer.key, shared=True):
        try:
            blob = os.open(store.blob_path(layer.key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DamagedBlob(layer.key, "its archive is missing") from None
    try:
        store.mark_used(layer.key)
        verification = _Verification(blob, layer.key)
        try:
            for member in ArchiveReader(FileSource(blob), devices=True, limits=_NO_LIMITS):
                if claims.claim(position, member.name, is_directory=member.kind == DIRECTORY):
                    extraction.place(member, blob)
        except ArchiveError as error:
            # A blob that is not what was imported explains any error better than the error does.
            verification.finish()
            raise ArchiveError(f"image {layer.key} cannot be rendered: {error.message}") from None
        finally:
            verification.wait()
        verification.finish()
    finally:
        os.close(blob)


class _Verification:
    """Hashes a blob in a second thread while it is unpacked; what was unpacked counts only if the hash is right."""

    def __init__(self, blob: int, key: str) -> None:
        self._blob = blob
        self._key = key
        self._found = ""
        self._error: OSError | None = None
        self._thread = Thread(target=self._hash, daemon=True)
        self._thread.start()

    def _hash(self) -> None:
        digest, position = hashlib.sha512(), 0
        try:
            while data := os.pread(self._blob, _HASH_PIECE, position):
                digest.update(data)
                position += len(data)
        except OSError as error:
            self._error = error
        self._found = key_of_digest(digest.hexdigest())

    def wait(self) -> None:
        self._thread.join()

    def finish(self) -> None:
        """Raises DamagedBlob."""
        self.wait()
        if self._error is not None:
            raise DamagedBlob(self._key, f"its archive cannot be read: {self._error.strerror}")
        if self._found != self._key:
            raise DamagedBlob(self._key, f"its archive's hash is {self._found}")


class _Claims:
    """Which layer provides which path: the first that has it, by the whitelists of the images (contract section 8.3)."""

    def __init__(self, flattened: Sequence[Layer]) -> None:
        self._own = [_whitelist(layer.manifest.path_whitelist) for layer in flattened]
        self._inherited = [_inherited_whitelist(flattened, position) for position in range(len(flattened))]
        # A path's provider matters no more once it is known whether it is a directory.
        self._is_directory: dict[str, bool] = {}

    def claim(self, position: int, path: str, *, is_directory: bool) -> bool:
        """Whether the layer at `position` renders this member of it."""
        if path == "rootfs":
            # As in rkt each layer sets the rootfs's own mode and times: the lowest one's are seen.
            self._is_directory[path] = True
            return True
        own, inherited = self._own[position], self._inherited[position]
        if own is not None and not is_directory and path not in own:
            return False
        if inherited is not None and path not in inherited:
            return False
        if path in self._is_directory:
            return False
        parent = posixpath.dirname(path)
        while parent:
            if self._is_directory.get(parent) is False:
                return False
            parent = posixpath.dirname(parent)
        self._is_directory[path] = is_directory
        return True


def _whitelist(paths: Sequence[str]) -> frozenset[str] | None:
    if not paths:
        return None
    return frozenset(posixpath.normpath("rootfs/" + path.lstrip("/")) for path in paths)


def _inherited_whitelist(flattened: Sequence[Layer], position: int) -> frozenset[str] | None:
    """As rkt finds it: going back through the list, the last whitelist at a level above the one just passed."""
    found: frozenset[str] | None = None
    level = flattened[position].level
    for layer in reversed(flattened[: position + 1]):
        if layer.level < level and layer.manifest.path_whitelist:
            found = _whitelist(layer.manifest.path_whitelist)
        level = layer.level
    return found
