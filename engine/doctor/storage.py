"""Docker's data root: its file system, and whether a storage driver works on it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, note, ok, unseen, warning
from linux.files import entry_types

if TYPE_CHECKING:
    from engine.doctor.probe import FileSystem, Probe
    from engine.doctor.settings import Settings

# What dockerd gave up, and in which version (its release notes).
_GONE = {"aufs": 24, "overlay": 24, "devicemapper": 25}
_DRIVERS = ("overlay2", "btrfs", "zfs", "vfs", "fuse-overlayfs", "aufs", "overlay", "devicemapper", "windowsfilter", "overlayfs")
_GOOD = ("ext4", "ext3", "ext2", "xfs", "btrfs", "tmpfs", "f2fs", "bcachefs")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuseblk", "vfat", "msdos", "exfat", "ntfs3", "ecryptfs", "ceph")
_ELSEWHERE = "put the data root on ext4, xfs or btrfs (`data-root` in daemon.json), or mount one there"


class Storage(NamedTuple):
    """`types`: whether directories say what their entries are (None: no entry to see it by); `drivers`: those that left data here."""

    root: str
    present: bool
    is_directory: bool
    filesystem: FileSystem
    types: bool | None
    drivers: tuple[str, ...]
    denied: bool


def gather(probe: Probe, settings: Settings) -> Storage:
    root = settings.data_root
    filesystem = probe.file_system(root)
    asleep = filesystem.fstype == "autofs"
    found = None if asleep else probe.stat(root)
    return Storage(
        root=root,
        present=found is not None,
        is_directory=found is None or stat.S_ISDIR(found.st_mode),
        filesystem=filesystem,
        types=None if asleep else _sees_types(probe, root),
        drivers=() if asleep else tuple(name for name in probe.names(root) if name in _DRIVERS and probe.names(f"{root}/{name}")),
        denied=root in probe.denied,
    )


def _sees_types(probe: Probe, root: str) -> bool | None:
    """By the entries of the data root, or of what is above it on the same file system. Nothing is written, as dockerd's own test would."""
    path = probe.nearest(probe.real(root))
    device = os.stat(probe.at(path)).st_dev
    while True:
        try:
            types = entry_types(probe.at(path))
        except OSError:
            types = []
        if types:
            return 0 not in types
        above = os.path.dirname(path)
        if above == path or os.stat(probe.at(above)).st_dev != device:
            return None
        path = above


def checks(storage: Storage, settings: Settings, engine_version: str) -> list[Check]:
    filesystem = storage.filesystem
    where = f"{storage.root} on {filesystem.fstype or 'an unknown file system'} ({filesystem.target})"
    if filesystem.fstype == "autofs":
        return [note("storage.data-root", f"{storage.root} is mounted at its first use, and is not now", "look again when it is mounted")]
    return [_data_root(storage, settings, where), _types(storage, settings), _driver(storage, settings, engine_version)]


def _data_root(storage: Storage, settings: Settings, where: str) -> Check:
    name = "storage.data-root"
    filesystem = storage.filesystem
    if not os.path.isabs(storage.root):
        return error(name, f"data-root is no absolute path: {storage.root}", "write an absolute path")
    if not storage.is_directory:
        return error(name, f"{storage.root} is no directory", f"move {storage.root} away, or set data-root")
    if filesystem.read_only:
        return error(
            name, f"{where} is read-only", f"mount {filesystem.target} writable (an error of the disk? `journalctl -k`), or set data-root"
        )
    if filesystem.fstype == "overlay":
        return _unfit(name, f"{where}: an overlay cannot lie on another", _ELSEWHERE, storage, settings)
    if filesystem.fstype.partition(".")[0] in _NETWORK:
        return _unfit(name, f"{where}: no overlay lies on it", _ELSEWHERE, storage, settings)
    if filesystem.fstype == "tmpfs":
        return note(name, f"{where}: images and containers are gone after a boot, and take memory", "nothing, if that is meant")
    if filesystem.fstype == "zfs":
        return note(name, f"{where}: overlay2 needs OpenZFS 2.2 there", 'with an older one, `"storage-driver": "zfs"` in daemon.json')
    if filesystem.fstype not in _GOOD:
        return note(
            name, f"{where}: not a file system that Docker is usually kept on", "`docker info` shows which storage driver was chosen"
        )
    return ok(name, f"data root: {where}" + ("" if storage.present else ", made at the first start"))


def _types(storage: Storage, settings: Settings) -> Check:
    name = "storage.d-type"
    if storage.types is None:
        return note(
            name, "the file system of the data root is empty: whether it has d_type cannot be seen", "look again after the first start"
        )
    if storage.types:
        return ok(name, "its directories say what their entries are (d_type)")
    how = "make it anew with `mkfs.xfs -n ftype=1`" if storage.filesystem.fstype == "xfs" else "put the data root on another file system"
    return _unfit(name, f"{storage.filesystem.target} has no d_type", f"save what is on it and {how}", storage, settings)


def _unfit(name: str, what: str, do: str, storage: Storage, settings: Settings) -> Check:
    """A file system on which overlay2 does not work: dockerd goes on with another driver, unless it has to take this one."""
    chosen = settings.value("storage-driver")
    if chosen in ("vfs", "fuse-overlayfs"):
        return ok(name, f"{what}; the storage driver {chosen} needs none of it")
    if chosen == "overlay2" or "overlay2" in storage.drivers:
        return error(name, f"{what}: dockerd does not start with the storage driver overlay2", do)
    return warning(name, f"{what}: dockerd falls back to the storage driver vfs, which copies every layer in full", do)


def _driver(storage: Storage, settings: Settings, engine_version: str) -> Check:
    name = "storage.driver"
    chosen = settings.value("storage-driver")
    major = int(digits) if (digits := engine_version.partition(".")[0]).isdecimal() else 0
    if chosen and chosen not in _DRIVERS:
        return error(name, f"storage-driver: there is no {chosen}", "leave storage-driver out, or write overlay2")
    if chosen and major >= _GONE.get(chosen, 1000):
        return error(
            name,
            f"storage-driver {chosen} went with Docker {_GONE[chosen]}, and this is {engine_version}",
            "save images (`docker save`) with an older engine, then leave storage-driver out",
        )
    gone = [driver for driver in storage.drivers if major >= _GONE.get(driver, 1000)]
    if not chosen and gone:
        return warning(
            name,
            f"{storage.root} has images of the storage driver {', '.join(gone)}, which Docker {major} does not read",
            "go back to an engine that does, `docker save` what is needed, then load it again; or leave it",
        )
    several = [driver for driver in storage.drivers if driver not in gone and driver != "vfs"]  # vfs never counts, to dockerd
    if not chosen and len(several) > 1:
        return error(
            name,
            f"{storage.root} has images of {' and '.join(several)}: dockerd does not start without being told which",
            'set "storage-driver" in daemon.json, or remove the directories of the other from the data root',
        )
    if chosen == "vfs":
        return warning(
            name, "storage-driver vfs copies every layer in full", "leave storage-driver out, if the file system allows overlay2"
        )
    if storage.denied:
        return unseen(name, f"what is in {storage.root}")
    used = chosen or (storage.drivers[0] if storage.drivers else "")
    return ok(name, f"storage driver: {used}" if used else "storage driver: dockerd's choice, overlay2 where the file system allows it")
