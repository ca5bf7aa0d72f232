"""Control groups: which version, which controllers, and whether Docker's driver fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, ok, warning

if TYPE_CHECKING:
    from engine.doctor.probe import Probe
    from engine.doctor.settings import Settings

V1 = "v1"
HYBRID = "hybrid"
V2 = "v2"
NONE = "none"

# Controller, and what does not work without. Docker starts without any of these but `devices`.
_V1 = {
    "devices": "",
    "memory": "--memory",
    "cpu": "--cpus, --cpu-shares",
    "cpuacct": "`docker stats`",
    "cpuset": "--cpuset-cpus",
    "freezer": "`docker pause`",
    "pids": "--pids-limit",
    "blkio": "--device-read-bps",
}
_V2 = {
    "memory": "--memory",
    "cpu": "--cpus, --cpu-shares",
    "cpuset": "--cpuset-cpus",
    "pids": "--pids-limit",
    "io": "--device-read-bps",
}
_DRIVERS = ("systemd", "cgroupfs")


class Cgroups(NamedTuple):
    """`mode` as systemd calls it, and the controllers that Docker can use."""

    mode: str
    controllers: frozenset[str]

    @property
    def is_v1(self) -> bool:
        """Whether Docker uses version 1, as it does in a hybrid."""
        return self.mode in (V1, HYBRID)


def gather(probe: Probe) -> Cgroups:
    mounts = [mount for mount in probe.mounts if mount.target == "/sys/fs/cgroup" or mount.target.startswith("/sys/fs/cgroup/")]
    if any(mount.fstype == "cgroup2" and mount.target == "/sys/fs/cgroup" for mount in mounts):
        return Cgroups(V2, frozenset(probe.word("/sys/fs/cgroup/cgroup.controllers").split()))
    options = [option for mount in mounts if mount.fstype == "cgroup" for option in mount.options.split(",")]
    controllers = frozenset(option for option in options if option in _V1 or option in ("hugetlb", "net_cls", "net_prio", "perf_event"))
    if not options:
        return Cgroups(NONE, frozenset())
    return Cgroups(HYBRID if any(mount.fstype == "cgroup2" for mount in mounts) else V1, controllers)


def checks(cgroups: Cgroups, settings: Settings) -> list[Check]:
    if cgroups.mode == NONE:
        return [
            error(
                "cgroups.mode",
                "no cgroup hierarchy is mounted at /sys/fs/cgroup",
                "let systemd mount it: boot without `systemd.unified_cgroup_hierarchy` and `cgroup_no_v1`, or upgrade systemd",
            )
        ]
    names = {V1: "version 1", HYBRID: "version 1, with version 2 for systemd alone (hybrid)", V2: "version 2"}
    return [ok("cgroups.mode", f"control groups of {names[cgroups.mode]}"), _controllers(cgroups), _driver(cgroups, settings)]


def _controllers(cgroups: Cgroups) -> Check:
    name = "cgroups.controllers"
    wanted = _V1 if cgroups.is_v1 else _V2
    missing = [controller for controller in wanted if controller not in cgroups.controllers]
    boot = "take `cgroup_disable=…` off the kernel's command line, or add `cgroup_enable=…` (with memory: `swapaccount=1` too), and reboot"
    if "devices" in missing:
        return error(name, "the controller devices is missing: dockerd does not start", boot)
    if missing:
        without = ", ".join(wanted[controller] for controller in missing)
        return warning(name, f"controllers are missing: {', '.join(missing)}; without, {without} have no effect", boot)
    return ok(name, f"controllers: {', '.join(sorted(cgroups.controllers))}")


def _driver(cgroups: Cgroups, settings: Settings) -> Check:
    name = "cgroups.driver"
    chosen, where = settings.option("exec-opts", "native.cgroupdriver")
    default = "cgroupfs" if cgroups.is_v1 else "systemd"
    if not chosen:
        return ok(name, f"Docker's cgroup driver: {default}, its own choice here")
    if chosen not in _DRIVERS:
        return error(
            name,
            f"{where}: native.cgroupdriver={chosen} is no driver: dockerd does not start",
            f"write one of {', '.join(_DRIVERS)}, or leave it out: {default} is chosen then",
        )
    if chosen == "cgroupfs" and not cgroups.is_v1:
        return warning(
            name,
            f"{where}: native.cgroupdriver=cgroupfs on cgroup v2: systemd and Docker both write to one tree",
            "leave native.cgroupdriver out; containers have to be made anew after the change",
        )
    return ok(name, f"Docker's cgroup driver: {chosen}, as {where} says")
