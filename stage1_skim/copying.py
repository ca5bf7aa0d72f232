"""Copying a directory of an image as it stands: owners, modes, times, links, devices. What it is for is rare (a Docker image's volumes)."""

from __future__ import annotations

import os
import shutil
import stat


def copy_tree(source: str, target: str) -> None:
    """The content of the directory `source` into the directory `target`, which is there. Raises OSError."""
    made: dict[tuple[int, int], str] = {}
    for entry in os.scandir(source):
        _copy(entry.path, os.path.join(target, entry.name), made)
    _keep(source, target, os.stat(source))


def _copy(source: str, target: str, made: dict[tuple[int, int], str]) -> None:
    status = os.lstat(source)
    known = made.get((status.st_dev, status.st_ino))
    if known is not None:
        os.link(known, target, follow_symlinks=False)
        return
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target)
        for entry in os.scandir(source):
            _copy(entry.path, os.path.join(target, entry.name), made)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    elif not stat.S_ISSOCK(status.st_mode):
        os.mknod(target, status.st_mode, status.st_rdev)
    else:
        return
    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
        made[(status.st_dev, status.st_ino)] = target
    _keep(source, target, status)


def _keep(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return
    os.chmod(target, stat.S_IMODE(status.st_mode))
    if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
        for name in os.listxattr(source):
            if name.startswith(("user.", "security.capability")):
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
