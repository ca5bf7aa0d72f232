"""The image store: content-addressed, below `cas` of the data directory (contract section 1.1).

Blobs (the uncompressed archives) and manifests lie where rkt has them. rkt's database is a format that only Go reads, so the index is our
own: one small JSON file for each image, `cas/index/<key>`. An image exists when its index file does: that file is written last and removed
first. Its modification time is when the image was last used.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from appc import image_id
from appc.app import Label
from appc.errors import ManifestError, UserError
from appc.image import parse_image_manifest
from poddir import layout
from poddir.locks import KeyLock, try_exclusive
from stage0.image_reference import parse_image_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.image import ImageManifest

_DIRECTORY_MODE = 0o770
_FILE_MODE = 0o660


class ImageNotFound(UserError):
    """No image of the store is what was asked for; `message` is rkt's."""


class StoredImage(NamedTuple):
    """What the index says of an image. Times in nanoseconds since 1970, sizes in bytes; `tree_size` 0 until the image is rendered.

    `manifest_hash`: sha512 of the stored manifest in hex; empty in entries of a time when it was not noted.
    """

    key: str
    name: str
    labels: tuple[Label, ...]
    import_time: int
    last_used: int
    size: int
    tree_size: int
    latest: bool
    manifest_hash: str = ""


class Store:
    """The images of one data directory. Making one touches nothing; the directories are made by the first image."""

    def __init__(self, data_directory: str) -> None:
        self.data_directory = data_directory
        self.directory = layout.store_directory(data_directory)
        self._index = os.path.join(self.directory, "index")
        self.temporary = os.path.join(self.directory, "tmp")

    # Where things are.

    def blob_path(self, key: str) -> str:
        return os.path.join(self.directory, "blob", "sha512", _shard(key), key)

    def manifest_path(self, key: str) -> str:
        return os.path.join(self.directory, "imageManifest", "sha512", _shard(key), key)

    def lock(self, key: str, *, shared: bool) -> KeyLock:
        """The lock of one image: shared to read its blob, exclusive to write or remove it."""
        make_directory(self.directory, _DIRECTORY_MODE)
        return KeyLock(os.path.join(self.directory, "imagelocks"), key, shared=shared)

    # What there is.

    def has(self, key: str) -> bool:
        """Whether there is an image of exactly that key."""
        return os.path.exists(self._index_path(key))

    def resolve(self, text: str) -> str:
        """The key of the image that the user means: an image ID or the beginning of one, else name[:version][,label=value].

        Raises ImageNotFound, or UserError for what is neither or is ambiguous (contract section 7.3).
        """
        if image_id.is_hash(text):
            try:
                return self.resolve_key(text)
            except UserError as error:
                raise type(error)(f"cannot resolve image ID: {error}") from error
        try:
            name, labels = parse_image_name(text)
        except UserError as error:
            raise UserError(f'cannot find image: cannot parse the image name "{text}": {error}') from error
        try:
            return self.find(name, labels)
        except ImageNotFound as error:
            raise ImageNotFound(f"cannot find image: {error}") from error

    def resolve_key(self, text: str) -> str:
        """The key that begins with `text` (`sha512-` and at least two digits)."""
        if not text.startswith(image_id.PREFIX):
            raise UserError("wrong key prefix")
        if len(text) < image_id.MIN_PREFIX_LENGTH:
            raise UserError("image ID too short")
        prefix = image_id.truncated(text)
        if len(prefix) == image_id.KEY_LENGTH:
            if "/" not in prefix and self.has(prefix):
                return prefix
            raise ImageNotFound("no image IDs found")
        keys = [key for key in self.image_ids() if key.startswith(prefix)]
        if not keys:
            raise ImageNotFound("no image IDs found")
        if len(keys) > 1:
            raise UserError(f'ambiguous image ID: "{prefix}"')
        return keys[0]

    def find(self, name: str, labels: Iterable[Label] = ()) -> str:
        """The key of the image of that name that has all the labels: without a version the one flagged latest, else the last imported."""
        wanted = tuple(labels)
        any_version = all(label.name != "version" for label in wanted)
        found: StoredImage | None = None
        damaged: list[UserError] = []
        for image in self.images(damaged):
            if image.name != name or any(label not in image.labels for label in wanted):
                continue
            if found is None or ((image.latest and any_version), image.import_time) > ((found.latest and any_version), found.import_time):
                found = image
        if found is None and damaged:
            raise damaged[0]
        if found is None:
            described = " ".join(f'{{"{label.name}" "{label.value}"}}' for label in wanted)
            raise ImageNotFound(f'cannot find aci satisfying name: "{name}" and labels: [{described}] in the local store')
        return found.key

    def images(self, damaged: list[UserError] | None = None) -> list[StoredImage]:
        """All images, in no order. One that goes away meanwhile is left out. What is wrong with a damaged one goes to the list, if given.

        Raises UserError for a damaged one otherwise.
        """
        found = []
        for key in self.image_ids():
            try:
                found.append(self.image(key))
            except ImageNotFound:
                continue
            except UserError as error:
                if damaged is None:
                    raise
                damaged.append(error)
        return found

    def image(self, key: str) -> StoredImage:
        """What the index says of one image. Raises ImageNotFound, UserError for a damaged index file."""
        path = self._index_path(key)
        try:
            with open(path, "rb") as file:
                text = file.read()
                last_used = os.fstat(file.fileno()).st_mtime_ns
            entry = json.loads(text)
            image = StoredImage(
                key=key,
                name=entry["name"],
                labels=tuple(Label(name=name, value=value) for name, value in entry["labels"]),
                import_time=entry["importTime"],
                last_used=last_used,
                size=entry["size"],
                tree_size=entry["treeSize"],
                latest=entry["latest"],
                manifest_hash=entry.get("manifestHash", ""),
            )
            if not _is_sound(image):
                raise TypeError
        except FileNotFoundError:
            raise ImageNotFound(f"cannot find image with key: {key}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"the image store's entry for {key} is damaged", hint=f"remove {path} and fetch the image again") from None
        return image

    def manifest_text(self, key: str) -> str:
        """The manifest's canonical JSON. Raises ImageNotFound, UserError where it is not what was stored."""
        expected = self.image(key).manifest_hash
        try:
            with open(self.manifest_path(key), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            raise ImageNotFound(f"cannot find image with key: {key}") from None
        if expected and image_id.sha512_of(text) != expected:
            raise UserError(
                f"the stored manifest of image {key} is damaged: it is not the one that was stored", hint="fetch the image again"
            )
        return text.decode("utf-8", "replace")

    def manifest(self, key: str) -> ImageManifest:
        """The image's manifest. Raises ImageNotFound, UserError where the stored one is damaged."""
        try:
            return parse_image_manifest(self.manifest_text(key))
        except ManifestError as error:
            raise UserError(f"the stored manifest of image {key} is damaged: {error}", hint="fetch the image again") from None

    # What changes.

    def enter(self, image: StoredImage, manifest_text: str) -> None:
        """Makes an image exist whose blob is in place. The caller holds the image's lock."""
        path = self.manifest_path(image.key)
        text = manifest_text.encode()
        make_directory(os.path.dirname(path), _DIRECTORY_MODE)
        replace_file(path, text, _FILE_MODE, self.temporary)
        self._write_index(image._replace(manifest_hash=image_id.sha512_of(text)))
        sync_directory(os.path.dirname(path))

    def mark_used(self, key: str) -> None:
        """Sets an image's last use to now; where that is not permitted, nothing happens."""
        try:
            os.utime(self._index_path(key))
        except OSError:
            return

    def set_tree_size(self, key: str, size: int) -> None:
        """Notes how large the rendered image is; an image that is gone meanwhile stays gone, a damaged entry damaged."""
        if not self.has(key):
            return  # and its lock's file, too
        with self.lock(key, shared=False):
            try:
                image = self.image(key)
            except UserError:
                return
            if image.tree_size != size:
                self._write_index(image._replace(tree_size=size))

    def remove(self, key: str) -> None:
        """Removes an image; rendered trees stay for `image gc`. Raises ImageNotFound, OSError."""
        with self.lock(key, shared=False):
            try:
                os.unlink(self._index_path(key))
            except FileNotFoundError:
                raise ImageNotFound(f"cannot find image with key: {key}") from None
            sync_directory(self._index)
            self._remove_files(key)

    def remove_unless_entered(self, key: str) -> bool:
        """Removes the files of an image that never came to exist; whether there were any. The caller holds the image's lock."""
        return False if self.has(key) else self._remove_files(key)

    def remove_scratch_files(self) -> None:
        """Removes what processes that were killed left in `tmp`. Whose process is gone, and lock is free, is nobody's."""
        try:
            names = os.listdir(self.temporary)
        except FileNotFoundError:
            return
        for name in names:
            process = name.split(".")[-2:-1]
            if process and process[0].isdigit() and not os.path.exists(f"/proc/{process[0]}"):
                path = os.path.join(self.temporary, name)
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                except OSError:
                    continue
                try:
                    # A container that shares the store has process numbers of its own.
                    if try_exclusive(descriptor):
                        _unlink_if_there(path)
                finally:
                    os.close(descriptor)

    def remove_strays(self) -> None:
        """Removes files that imports left which were killed between the blob and the index."""
        for kind in ("blob", "imageManifest"):
            for directory, _, names in os.walk(os.path.join(self.directory, kind)):
                for key in names:
                    if image_id.is_key(key) and directory.endswith("/" + _shard(key)) and not self.has(key):
                        with self.lock(key, shared=False):
                            self.remove_unless_entered(key)

    def kept(self) -> dict[str, str]:
        """Images that are needed though no pod refers to them, and by whom: the name of a file in `cas/roots` that lists their keys."""
        directory = layout.roots_directory(self.data_directory)
        found: dict[str, str] = {}
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            with open(os.path.join(directory, name), encoding="ascii", errors="replace") as file:
                found.update(dict.fromkeys(file.read().split(), name))
        return found

    def _remove_files(self, key: str) -> bool:
        found = [path for path in (self.blob_path(key), self.manifest_path(key)) if os.path.exists(path)]
        for path in found:
            _unlink_if_there(path)
        _unlink_if_there(os.path.join(self.directory, "imagelocks", key))
        return bool(found)

    def _write_index(self, image: StoredImage) -> None:
        make_directory(self._index, _DIRECTORY_MODE)
        entry = {
            "name": image.name,
            "labels": [[label.name, label.value] for label in image.labels],
            "importTime": image.import_time,
            "size": image.size,
            "treeSize": image.tree_size,
            "latest": image.latest,
            "manifestHash": image.manifest_hash,
        }
        replace_file(self._index_path(image.key), json.dumps(entry).encode(), _FILE_MODE, self.temporary, mtime=image.last_used)
        sync_directory(self._index)

    def _index_path(self, key: str) -> str:
        return os.path.join(self._index, key)

    def image_ids(self) -> list[str]:
        """The keys of all images, in no order."""
        try:
            names = os.listdir(self._index)
        except FileNotFoundError:
            return []
        return [name for name in names if image_id.is_key(name)]


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def make_directory(path: str, mode: int) -> None:
    """Makes a directory and its parents with exactly that mode, but for the set-group-ID bit that they inherit."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_directory(parent, mode)
    old = os.umask(0)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    finally:
        os.umask(old)


def replace_file(path: str, content: bytes, mode: int, temporary: str, *, mtime: int | None = None) -> None:
    """Writes a file so that it is there whole or not at all, after a power cut too. The caller syncs the directory."""
    make_directory(temporary, _DIRECTORY_MODE)
    scratch = os.path.join(temporary, f"{os.path.basename(path)}.{os.getpid()}.{now()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            if mtime is not None:
                os.utime(descriptor, ns=(mtime, mtime))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(scratch, path)
    except BaseException:
        _unlink_if_there(scratch)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """All of it: a disk that is nearly full takes a part, and only the next write says why. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: str) -> None:
    """Brings a directory's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _is_sound(image: StoredImage) -> bool:
    """Whether an index file had what its readers expect: a damaged one must not look like an error in the program."""
    numbers = (image.import_time, image.size, image.tree_size)
    texts = (image.name, image.manifest_hash, *(text for label in image.labels for text in label))
    return all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)


def _shard(key: str) -> str:
    return key[len(image_id.PREFIX) : len(image_id.PREFIX) + 2]
