"""Taking an image file into the store: unpack, hash, check every member, then rename (contract sections 8.1 and 8.2)."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from appc.archive import ArchiveReader, FileSource
from appc.compression import DEFAULT_LIMITS, Limits, chunks
from appc.errors import ArchiveError, ManifestError, UserError
from appc.image import image_manifest_json, parse_image_manifest
from appc.image_id import key_of_digest
from poddir.locks import exclusive
from stage0.store import Store, StoredImage, make_directory, now, sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.image import ImageManifest

# Pieces of 1 MiB that may wait for the hash.
_AHEAD = 8


def import_image(store: Store, path: str, *, verified: bool, devices: bool = False, limits: Limits = DEFAULT_LIMITS) -> str:
    """Stores the image of a file and returns its key. `devices` allows device nodes in it.

    `verified`: the user has waived the signature (--insecure-options=image), the only way so far. Of a refused image nothing is left in
    the store. Raises UserError, ArchiveError and ManifestError, each naming the file.
    """
    if not verified:
        raise UserError(
            f'image "{path}" cannot be verified: signatures are not supported', hint="use --insecure-options=image to accept it unsigned"
        )
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for a writer
    except OSError as error:
        raise UserError(f"error opening ACI file: open {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        kind = os.fstat(source).st_mode
        if not stat.S_ISREG(kind):
            raise UserError(
                f'image "{path}" is ' + ("a directory" if stat.S_ISDIR(kind) else "no file: a pipe or device cannot be an image")
            )
        return _import(store, source, devices=devices, limits=limits)
    except ManifestError as error:
        raise UserError(f'image "{path}" is refused: {error}') from None
    except ArchiveError as error:
        raise ArchiveError(f'image "{path}" is refused: {error.message}', hint=error.hint) from None
    except OSError as error:
        if error.filename is None:  # a call on a descriptor: no room, as a rule
            raise OSError(error.errno, f"write: {error.strerror}", store.directory) from None
        raise
    finally:
        os.close(source)


def _import(store: Store, source: int, *, devices: bool, limits: Limits) -> str:
    with _scratch_file(store) as (scratch, scratch_path):
        digest, size = _unpack(source, scratch, limits)
        reader = ArchiveReader(FileSource(scratch), devices=devices, limits=limits)
        for _ in reader:
            pass
        manifest = parse_image_manifest(reader.manifest)
        key = key_of_digest(digest)
        os.fchmod(scratch, 0o660)
        os.fdatasync(scratch)
        with store.lock(key, shared=False):
            try:
                _enter(store, key, manifest, scratch_path, size)
            except BaseException:
                # No room left for the manifest, or a signal: a blob that no image has would never be found again.
                store.remove_unless_entered(key)
                raise
        return key


def _enter(store: Store, key: str, manifest: ImageManifest, scratch_path: str, size: int) -> None:
    blob = store.blob_path(key)
    make_directory(os.path.dirname(blob), 0o770)
    # Over an older blob, too: fetching an image again mends a damaged one.
    os.rename(scratch_path, blob)
    sync_directory(os.path.dirname(blob))
    moment = now()
    image = StoredImage(
        key=key,
        name=manifest.name,
        labels=manifest.labels,
        import_time=moment,
        last_used=moment,
        size=size,
        tree_size=_tree_size(store, key),
        latest=False,
    )
    store.enter(image, image_manifest_json(manifest))


def _tree_size(store: Store, key: str) -> int:
    try:
        return store.image(key).tree_size
    except UserError:  # not there yet, or damaged, which this import mends
        return 0


@contextmanager
def _scratch_file(store: Store) -> Iterator[tuple[int, str]]:
    """A file in the store's file system that is gone afterwards unless it was renamed."""
    make_directory(store.temporary, 0o770)
    store.remove_scratch_files()
    path = os.path.join(store.temporary, f"import.{os.getpid()}.{now()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        exclusive(descriptor)
        yield descriptor, path
    finally:
        os.close(descriptor)
        if os.path.exists(path):
            os.unlink(path)


def _unpack(source: int, target: int, limits: Limits) -> tuple[str, int]:
    """Writes the uncompressed archive; returns its sha512 in hex and its size. The hash is a second thread's work."""
    pieces: SimpleQueue[bytes] = SimpleQueue()
    room = Semaphore(_AHEAD)
    digest = hashlib.sha512()

    def hash_pieces() -> None:
        while piece := pieces.get():
            digest.update(piece)
            room.release()

    hasher = Thread(target=hash_pieces, daemon=True)
    hasher.start()
    size = 0
    try:
        for piece in chunks(source, limits):
            room.acquire()
            pieces.put(piece)
            size += len(piece)
            write_all(target, piece)
    finally:
        pieces.put(b"")
        hasher.join()
    return digest.hexdigest(), size
