"""Members of an archive become files (contract section 2.3), in a directory that nothing but this touches and nothing here ever leaves.

Every directory on a member's way is opened by its own name from its parent's descriptor, never through a symlink; files are created and
never opened if they exist. So the worst archive can only fill the directory it is unpacked in.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from appc.errors import ArchiveError
from appc.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK

if TYPE_CHECKING:
    from appc.tar import Header

_PARENT_MODE = 0o755
_KEPT_XATTRS = ("security.capability", "user.")
_PIECE = 1 << 20
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 64
_NODE_TYPES = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}


class Extraction:
    """Use in `with`: `place` each member, then `finish`. Owners are set if root does this, else files are the caller's."""

    def __init__(self, directory: str) -> None:
        self._top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[str, int] = OrderedDict()
        self._directories: list[Header] = []
        self._owners = os.geteuid() == 0

    def __enter__(self) -> Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        os.close(self._top)

    def place(self, member: Header, blob: int) -> None:
        """Creates what the member describes; its content is read from the archive's descriptor. Raises ArchiveError, OSError."""
        self._forget_some()
        parent, name = self._parent(member.name)
        try:
            if member.kind == DIRECTORY:
                self._place_directory(member, parent, name)
            elif member.kind == FILE:
                self._place_file(member, parent, name, blob)
            elif member.kind == HARD_LINK:
                target, target_name = self._parent(member.link)
                os.link(target_name, name, src_dir_fd=target, dst_dir_fd=parent, follow_symlinks=False)
            elif member.kind == SYMLINK:
                os.symlink(member.link, name, dir_fd=parent)
                self._finish_by_name(member, parent, name)
            else:
                os.mknod(name, _NODE_TYPES[member.kind] | 0o600, os.makedev(member.major, member.minor), dir_fd=parent)
                self._finish_by_name(member, parent, name)
        except FileExistsError:
            raise ArchiveError(f'member "{member.name}" would replace something that is already there') from None
        except FileNotFoundError:
            if member.kind != HARD_LINK:
                raise
            raise ArchiveError(f'member "{member.name}" is a hard link to "{member.link}", which is not rendered') from None
        except OSError as error:
            # Calls on a descriptor name its number, or nothing.
            raise OSError(error.errno, error.strerror, member.name) from None

    def finish(self) -> None:
        """Sets modes, owners and times of the directories, which filling them would have changed; the deepest first."""
        for member in sorted(self._directories, key=lambda directory: directory.name, reverse=True):
            self._forget_some()
            self._finish_file(member, self._directory(member.name))

    def _parent(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._directory(parent), name

    def _directory(self, path: str) -> int:
        """A descriptor of a directory, made if it is not there; valid until the next member."""
        if not path:
            return self._top
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        parent, name = self._parent(path)
        try:
            descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            os.mkdir(name, 0o700, dir_fd=parent)
            os.chmod(name, _PARENT_MODE, dir_fd=parent)
            descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ArchiveError(f'"{path}" is no directory, but members lie below it') from None
            raise
        self._open[path] = descriptor
        return descriptor

    def _forget_some(self) -> None:
        while len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])

    def _place_directory(self, member: Header, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            # Made on the way to an earlier member, or a link's doing: opening it tells.
            self._directory(member.name)
        self._directories.append(member)

    def _place_file(self, member: Header, parent: int, name: str, blob: int) -> None:
        descriptor = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            self._copy(member, blob, descriptor)
            self._finish_file(member, descriptor)
        finally:
            os.close(descriptor)

    @staticmethod
    def _copy(member: Header, blob: int, target: int) -> None:
        position, end = member.offset, member.offset + member.size
        while position < end:
            # Not copy_file_range: members are not aligned as reflinks need it, and without those it is slower.
            data = os.pread(blob, min(end - position, _PIECE), position)
            if not data:
                raise ArchiveError(f'the archive is truncated in member "{member.name}"')
            position += os.write(target, data)

    def _finish_file(self, member: Header, descriptor: int) -> None:
        """Owner first: changing it drops set-user-ID bits and capabilities."""
        if self._owners:
            os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode)
        for name, value in member.xattrs.items():
            if member.kind == FILE and name.startswith(_KEPT_XATTRS) and (self._owners or not name.startswith("security.")):
                _set_attribute(member, descriptor, name, value)
        time = _nanoseconds(member)
        os.utime(descriptor, ns=(time, time))

    def _finish_by_name(self, member: Header, parent: int, name: str) -> None:
        """For what is not opened: links and nodes, which were created just now."""
        if self._owners:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.kind != SYMLINK:
            os.chmod(name, member.mode, dir_fd=parent)
        time = _nanoseconds(member)
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)


def _set_attribute(member: Header, descriptor: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(descriptor, name, value)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.E2BIG, errno.ERANGE):
            raise
        message = f'member "{member.name}" has the extended attribute {name}, which the file system of the target cannot store'
        raise ArchiveError(f"{message}: {error.strerror}") from None


def _nanoseconds(member: Header) -> int:
    return int(member.mtime) * 10**9 + int(member.mtime % 1 * 10**9)
