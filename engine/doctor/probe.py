"""Looking at a host without touching it: every fact that the doctor knows comes through here.

Nothing is opened for writing, nothing is mounted, no module is loaded, no socket is connected to: what would start something (an
automount point, D-Bus, docker.socket) is left alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from linux.mount import mount_points
from linux.process import Completed, ProgramError, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.layout import Layout
    from linux.mount import MountPoint

HOST_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where a service of systemd's looks for programs."""


class FileSystem(NamedTuple):
    """What holds a path: where it is mounted, its type ("" if unknown), flags, bytes and inodes (0: not counted), all and free for us."""

    target: str
    fstype: str
    options: str
    read_only: bool = False
    noexec: bool = False
    total: int = 0
    free: int = 0
    inodes: int = 0
    inodes_free: int = 0


class Probe:
    """A host below `layout.root`. What is not there is None, or empty; what may not be looked at is that too, and noted in `denied`."""

    def __init__(self, layout: Layout, *, user: int | None = None) -> None:
        self.layout = layout
        self.user = os.geteuid() if user is None else user
        self.denied: set[str] = set()
        self.mounts = self._mounts()

    @property
    def is_root(self) -> bool:
        return self.user == 0

    def at(self, path: str) -> str:
        return self.layout.at(path)

    def bytes(self, path: str) -> bytes | None:
        """A file's content."""
        try:
            with open(self.at(path), "rb") as file:
                return file.read()
        except PermissionError:
            self.denied.add(path)
            return None
        except (OSError, ValueError):  # the latter for what cannot be a path
            return None

    def text(self, path: str) -> str | None:
        """A file's content."""
        content = self.bytes(path)
        return None if content is None else content.decode(errors="surrogateescape")

    def word(self, path: str) -> str:
        """A file's content without blanks around it; "" where there is none."""
        return (self.text(path) or "").strip()

    def names(self, path: str) -> list[str]:
        """What is in a directory."""
        try:
            return sorted(os.listdir(self.at(path)))
        except PermissionError:
            self.denied.add(path)
            return []
        except (OSError, ValueError):
            return []

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        try:
            return os.stat(self.at(path), follow_symlinks=follow)
        except PermissionError:
            self.denied.add(path)
            return None
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        return self.stat(path) is not None

    def is_executable(self, path: str) -> bool:
        return os.path.isfile(self.at(path)) and os.access(self.at(path), os.X_OK)

    def link(self, path: str) -> str:
        """Where a link leads; "" for what is none."""
        try:
            return os.readlink(self.at(path))
        except (OSError, ValueError):
            return ""

    def real(self, path: str) -> str:
        """The path after all links, without the root."""
        return os.path.realpath(self.at(path)).removeprefix(self.layout.root) or "/"

    def same(self, first: str, second: str) -> bool | None:
        """Whether two paths are one directory; None where that cannot be seen."""
        one, other = self.stat(first), self.stat(second)
        if one is None or other is None:
            return None if {first, second} & self.denied else False
        return os.path.samestat(one, other)

    def find_program(self, name: str, directories: Sequence[str] = HOST_PATH) -> str:
        """The path of a program, "" if it is in none of the directories."""
        return next((path for folder in directories if self.is_executable(path := f"{folder}/{name}")), "")

    def covering_mount(self, path: str) -> MountPoint | None:
        """The mount that holds a path."""
        found = None
        for mount in self.mounts:
            covers = path == mount.target or path.startswith(mount.target.rstrip("/") + "/")
            if covers and (found is None or len(mount.target) >= len(found.target)):
                found = mount
        return found

    def is_asleep(self, path: str) -> bool:
        """Whether looking at a path would mount something: an automount point that waits for its first use."""
        mount = self.covering_mount(path)
        return mount is not None and mount.fstype == "autofs"

    def nearest(self, path: str) -> str:
        """The path, or the nearest one above it that is there."""
        while path not in ("/", "") and not os.path.isdir(self.at(path)):
            path = os.path.dirname(path)
        return path or "/"

    def file_system(self, path: str) -> FileSystem:
        """What holds a path, there already or not."""
        real = self.real(path)
        mount = self.covering_mount(real)
        target, fstype, options = (mount.target, mount.fstype, mount.options) if mount else ("/", "", "")
        if fstype == "autofs":
            return FileSystem(target, fstype, options)
        try:
            numbers = os.statvfs(self.at(self.nearest(real)))
        except (OSError, ValueError):
            return FileSystem(target, fstype, options)
        return FileSystem(
            target,
            fstype,
            options,
            read_only=bool(numbers.f_flag & os.ST_RDONLY),
            noexec=bool(numbers.f_flag & os.ST_NOEXEC),
            total=numbers.f_blocks * numbers.f_frsize,
            free=numbers.f_bavail * numbers.f_frsize,
            inodes=numbers.f_files,
            inodes_free=numbers.f_favail,
        )

    def run(self, argv: Sequence[str], *, path: str | None = None) -> Completed | None:
        """Run a program that only reads; None if it cannot be run, or if this is no real host. `path` goes before the usual PATH."""
        if self.layout.root:
            return None
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": ":".join([*([path] if path else []), *HOST_PATH])}
        try:
            return run(argv, check=False, capture=True, env=environment)
        except ProgramError:
            return None

    def _mounts(self) -> list[MountPoint]:
        try:
            return mount_points(table=self.at("/proc/self/mountinfo"))
        except (OSError, ValueError):
            return []
