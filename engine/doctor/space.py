"""Room where Docker, the images of the engine and the pods are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, ok, warning

if TYPE_CHECKING:
    from engine.doctor.probe import FileSystem, Probe
    from engine.doctor.settings import Settings

MIB = 1 << 20
_FEW_INODES = 10000
_NO_INODES = 500


class Place(NamedTuple):
    """What is kept where. `enough` and `least` in bytes: less is a warning, and an error. `remedy` says how to make room."""

    id: str
    path: str
    filesystem: FileSystem
    enough: int
    least: int
    remedy: str


def gather(probe: Probe, settings: Settings) -> list[Place]:
    docker = "`docker system df` shows what takes it, `docker system prune` frees what nothing uses; or enlarge the file system"
    rkt = (
        "`rkt gc --grace-period=0s` and `rkt image gc` remove ended pods and unused images (while Docker runs); or enlarge the file system"
    )
    run = "find what fills it (`du -x /run`); a larger one: `mount -o remount,size=… /run`"
    return [
        Place("docker", settings.data_root, probe.file_system(settings.data_root), 1024 * MIB, 64 * MIB, docker),
        Place("rkt", "/var/lib/rkt", probe.file_system("/var/lib/rkt"), 512 * MIB, 32 * MIB, rkt),
        Place("run", "/run", probe.file_system("/run"), 16 * MIB, 1 * MIB, run),
    ]


def checks(places: list[Place]) -> list[Check]:
    return [check for place in places for check in _place(place)]


def _place(place: Place) -> list[Check]:
    name = f"space.{place.id}"
    filesystem = place.filesystem
    if filesystem.total == 0:
        return []
    found = []
    room = f"{place.path}: {_size(filesystem.free)} of {_size(filesystem.total)} free"
    where = f" ({filesystem.target})" if filesystem.target != place.path else ""
    if filesystem.free < place.least:
        found.append(error(name, f"{room}{where}: too little to work with", place.remedy))
    elif filesystem.free < place.enough:
        found.append(warning(name, f"{room}{where}", place.remedy))
    else:
        found.append(ok(name, f"{room}{where}"))
    if filesystem.inodes and filesystem.inodes_free < _FEW_INODES:
        make = error if filesystem.inodes_free < _NO_INODES else warning
        what = f"{place.path}: room for {filesystem.inodes_free} more files (inodes), of {filesystem.inodes}{where}"
        found.append(make(f"{name}-files", what, place.remedy))
    return found


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit in ("bytes", "KiB") or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
