"""Pods on disk: states, look-ups and the renames between states (contract sections 1.2 and 1.3).

A pod's state is the directory that it is in and whether someone holds the exclusive flock on the pod directory itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from appc.names import parse_uuid

from . import layout, locks

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names of the state directories, in the order that a pod goes through them: a look-up takes the first that has the pod.
STATE_DIRECTORIES = ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage")
# What prefix look-ups and `list` see.
COMMON_DIRECTORIES = ("prepare", "prepared", "run", "exited-garbage")

EMBRYO = "embryo"
PREPARING = "preparing"
ABORTED_PREPARE = "aborted prepare"
PREPARED = "prepared"
RUNNING = "running"
EXITED = "exited"
EXITED_GARBAGE = "exited garbage"
EXITED_DELETING = "exited deleting"
GARBAGE = "garbage"
DELETING = "deleting"
GONE = "gone"

# directory -> (state with the lock free, state with the lock held)
_STATES = {
    "embryo": (EMBRYO, EMBRYO),
    "prepare": (ABORTED_PREPARE, PREPARING),
    "prepared": (PREPARED, PREPARED),
    "run": (EXITED, RUNNING),
    "exited-garbage": (EXITED_GARBAGE, EXITED_DELETING),
    "garbage": (GARBAGE, DELETING),
}
_AFTER_RUN = frozenset({EXITED, EXITED_GARBAGE, EXITED_DELETING, GARBAGE, DELETING})
# rkt counts a pod that is being deleted as garbage, too, so waiting for its end is over.
_FINISHED = frozenset({EXITED, EXITED_GARBAGE, EXITED_DELETING, ABORTED_PREPARE, GARBAGE, DELETING, GONE})


class PodError(UserError):
    """A pod that is not there, or not in the state that was asked for. Wider contexts chain it with `raise … from`."""


class Pod:
    """An open pod: its UUID, the state it was last seen in, and the descriptor that locks are taken with. Use in `with`, or `close` it."""

    def __init__(self, data_directory: str, uuid: str, directory: str, descriptor: int, state: str) -> None:
        self.data_directory = data_directory
        self.uuid = uuid
        self.directory = directory
        self.descriptor = descriptor
        self.state = state

    @property
    def path(self) -> str:
        """The pod directory, where the pod was last seen; "" for a pod that is gone."""
        return os.path.join(layout.pods_directory(self.data_directory, self.directory), self.uuid) if self.directory else ""

    @property
    def after_run(self) -> bool:
        """Whether the pod's life is over (or never began and never will)."""
        return self.state in _AFTER_RUN

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.state in _FINISHED

    @property
    def manifest_expected(self) -> bool:
        """Whether the pod manifest must be there in this state."""
        return self.state not in (EMBRYO, PREPARING, ABORTED_PREPARE, DELETING)

    def refresh(self) -> None:
        """Look again where the pod is and in which state. Wants the pod not locked by this descriptor, and leaves it so."""
        for directory in STATE_DIRECTORIES:
            self.directory = directory
            if os.path.isdir(self.path):
                self.state = _probe(self.descriptor, directory)
                return
        self.directory, self.state = "", GONE

    def lock(self) -> None:
        """Take the exclusive lock, waiting for it."""
        locks.exclusive(self.descriptor)

    def deleted(self) -> bool:
        """Whether the pod's directory has been removed since it was opened (by another process that held the lock before us)."""
        return os.fstat(self.descriptor).st_nlink == 0

    def sync(self) -> None:
        """Bring what was written below the pod directory to the disk: syncfs(2)."""
        from linux.files import sync_file_system

        sync_file_system(self.descriptor)

    def to_prepared(self) -> None:
        """preparing -> prepared; gives the lock up."""
        self._expect(PREPARING)
        self._move("prepared", PREPARED, unlock=True)

    def to_run(self) -> None:
        """preparing or prepared -> running; the lock is held afterwards. Raises PodError if another process is faster."""
        self._expect(PREPARING, PREPARED)
        if self.state == PREPARED:
            self._lock_prepared()
        self._move("run", RUNNING)

    def to_exited_garbage(self) -> None:
        """exited -> exited garbage."""
        self._expect(EXITED)
        self._move("exited-garbage", EXITED_GARBAGE)

    def to_garbage(self) -> None:
        """aborted prepare or prepared -> garbage."""
        self._expect(ABORTED_PREPARE, PREPARED)
        self._move("garbage", GARBAGE)

    def _lock_prepared(self) -> None:
        # Whoever runs the pod at the same moment keeps its lock for the pod's whole life, so do not wait for it blindly;
        # someone who waits for the pod's end holds a shared lock for an instant, so do not give up at once either.
        while not locks.try_exclusive(self.descriptor):
            if not os.path.isdir(self.path):
                raise PodError(f'pod "{self.uuid}" is not prepared')
            import time

            time.sleep(0.01)

    def _expect(self, *states: str) -> None:
        if self.state not in states:
            raise PodError(f'pod "{self.uuid}" is {self.state}, not {" or ".join(states)}')

    def _move(self, directory: str, state: str, *, unlock: bool = False) -> None:
        target = layout.pods_directory(self.data_directory, directory)
        os.rename(self.path, os.path.join(target, self.uuid))
        if unlock:
            locks.unlock(self.descriptor)
        sync_directory(target)
        self.directory, self.state = directory, state

    def close(self) -> None:
        """Close the descriptor, which gives up its lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_directories(path: str, mode: int = layout.DIRECTORY_MODE) -> None:
    """Make a directory, with missing parents, all of one mode (os.makedirs gives the parents another). Raises OSError."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directories(os.path.dirname(path), mode)
        make_directories(path, mode)


def sync_directory(path: str) -> None:
    """fsync a directory, so that a rename into it survives a power cut."""
    descriptor = locks.open_directory(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def random_uuid() -> str:
    """A new UUID (RFC 4122 version 4), lower case with dashes. The uuid module is not used: it costs 4 ms to import."""
    octets = bytearray(os.urandom(16))
    octets[6] = (octets[6] & 0x0F) | 0x40
    octets[8] = (octets[8] & 0x3F) | 0x80
    return parse_uuid(octets.hex())


def make_state_directories(data_directory: str) -> None:
    """Make `pods/…` where missing. Raises OSError."""
    for name in STATE_DIRECTORIES:
        path = layout.pods_directory(data_directory, name)
        if not os.path.isdir(path):
            try:
                make_directories(path)
            except OSError as error:
                raise OSError(error.errno, f"mkdir: {error.strerror}", error.filename) from None


def create(data_directory: str) -> Pod:
    """A new pod in the state `preparing`, locked by us. Raises OSError; the embryo is removed then."""
    make_state_directories(data_directory)
    uuid = random_uuid()
    path = os.path.join(layout.pods_directory(data_directory, "embryo"), uuid)
    os.mkdir(path, layout.DIRECTORY_MODE)
    try:
        pod = Pod(data_directory, uuid, "embryo", locks.open_directory(path), EMBRYO)
    except OSError:
        os.rmdir(path)
        raise
    pod.lock()
    pod._move("prepare", PREPARING)
    return pod


def open_pod(data_directory: str, uuid: str) -> Pod:
    """The pod of that full UUID, open and not locked. Raises PodError if it is nowhere, OSError if it cannot be opened."""
    for directory in STATE_DIRECTORIES:
        try:
            descriptor = locks.open_directory(os.path.join(layout.pods_directory(data_directory, directory), uuid))
        except FileNotFoundError:
            continue
        return Pod(data_directory, uuid, directory, descriptor, _probe(descriptor, directory))
    raise PodError(f'pod "{uuid}" was not present')


def find(data_directory: str, text: str) -> Pod:
    """The pod whose UUID begins with `text` (in any case). Raises PodError unless exactly one does; the messages are rkt's."""
    make_state_directories(data_directory)
    try:
        uuid = resolve(data_directory, text)
    except PodError as error:
        raise PodError("unable to resolve UUID") from error
    try:
        return open_pod(data_directory, uuid)
    except PodError as error:
        raise PodError("unable to get pod") from error


def resolve(data_directory: str, text: str) -> str:
    """The one full UUID that begins with `text`. Raises PodError."""
    prefix = text.lower()
    if not prefix:
        raise PodError("UUID cannot be empty")
    matches = [uuid for uuid in _names(data_directory, COMMON_DIRECTORIES) if uuid.startswith(prefix)]
    if not matches:
        raise PodError(f'no matches found for "{prefix}"')
    if len(matches) > 1:
        raise PodError(f"ambiguous uuid, {len(matches)} matches")
    try:
        return parse_uuid(matches[0])
    except UserError as error:
        raise PodError("invalid UUID") from error


def walk(data_directory: str, directories: tuple[str, ...], skipped: list[str] | None = None) -> Iterator[Pod]:
    """Every pod now in one of `directories`, in the order of UUIDs; each is closed when the next is asked for.

    Pods that vanish meanwhile are passed over. What is no pod, or cannot be opened, is passed over with a line for the user in `skipped`.
    """
    make_state_directories(data_directory)
    for name in sorted(_names(data_directory, directories)):
        try:
            pod = open_pod(data_directory, parse_uuid(name))
        except (UserError, OSError) as error:
            if skipped is not None:
                skipped.append(f'skipping "{name}": {error}')
            continue
        with pod:
            if pod.directory in directories:
                yield pod


def read_uuid_file(path: str) -> str:
    """The UUID that `--uuid-file-save` wrote. Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _probe(descriptor: int, directory: str) -> str:
    free, held = _STATES[directory]
    if free == held:
        return free
    if not locks.try_shared(descriptor):
        return held
    locks.unlock(descriptor)
    return free


def _names(data_directory: str, directories: tuple[str, ...]) -> set[str]:
    """UUIDs in those directories, each once though a pod may move while we look."""
    names: set[str] = set()
    for directory in directories:
        try:
            with os.scandir(layout.pods_directory(data_directory, directory)) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue
    return names
