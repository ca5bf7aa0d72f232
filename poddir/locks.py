"""flock(2) on directories and on key files, as rkt takes them (contract section 1.2). Never lockf: the two do not see each other."""

from __future__ import annotations

import fcntl
import os

_ATTEMPTS = 4


def open_directory(path: str) -> int:
    """A close-on-exec descriptor to lock a directory by. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def try_shared(descriptor: int) -> bool:
    """Take a shared lock unless another descriptor holds an exclusive one; False then."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_exclusive(descriptor: int) -> bool:
    """Take an exclusive lock unless another descriptor holds any; False then."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def exclusive(descriptor: int) -> None:
    """Take an exclusive lock, waiting for it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def unlock(descriptor: int) -> None:
    """Give up whatever lock the descriptor holds."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


class KeyLock:
    """A lock file named after a key (`locks/prepareLock`, `cas/imagelocks/<key>`), held from construction to `close`; usable in `with`.

    Whoever cleans lock files up unlinks them while holding them, so a lock counts only if the file is still the one of that name.
    """

    def __init__(self, directory: str, key: str, *, shared: bool) -> None:
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, key)
        for _ in range(_ATTEMPTS):
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self.descriptor), os.stat(path)):
                    return
            except FileNotFoundError:
                pass
            os.close(self.descriptor)
        raise TimeoutError(f"cannot acquire lock after {_ATTEMPTS} attempts: {path}")

    def close(self) -> None:
        """Release the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> KeyLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
