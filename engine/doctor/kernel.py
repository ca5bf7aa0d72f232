"""The running kernel: its options, and modules that are loaded, built in, loadable, missing or forbidden."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import NOTE, Check, note, ok, warning
from engine.doctor.kernel_needs import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from engine.doctor.kernel_needs import Feature, Need, Version
    from engine.doctor.probe import Probe

BUILT_IN = "built in"
LOADED = "loaded"
LOADABLE = "can be loaded"
MISSING = "missing"
NO_FILE = "without its file"
FORBIDDEN = "forbidden"
UNKNOWN = "unknown"
_GZIP = 31  # zlib's window bits for data with gzip's header
_ENOUGH_KEYS = 10000


class Kernel(NamedTuple):
    """The running kernel. `options` is None where nothing says what it was built with, `source` the file that does."""

    release: str
    options: dict[str, str] | None
    source: str
    loaded: frozenset[str]
    built_in: frozenset[str]
    loadable: frozenset[str]
    takes_modules: bool
    """Whether this kernel loads modules at all."""
    loading_disabled: bool
    """kernel.modules_disabled: nothing is loaded until the next boot."""
    directory: bool
    """Whether /lib/modules/<release> is there."""
    other_releases: tuple[str, ...]
    forbidden: dict[str, str]
    """Modules that modprobe is told not to load, and the file that says so."""
    keys: int | None
    """kernel.keys.root_maxkeys."""

    @property
    def version(self) -> Version:
        numbers = [int("".join(filter(str.isdecimal, part)) or 0) for part in self.release.split("-")[0].split(".")[:2]]
        return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def gather(probe: Probe, release: str = "") -> Kernel:
    """`release` is `uname -r`."""
    release = release or os.uname().release
    modules = f"/lib/modules/{release}"
    options, source = _options(probe, release)
    loaded = frozenset(line.split()[0] for line in (probe.text("/proc/modules") or "").splitlines() if line.strip())
    built_in = {_module_name(line) for line in (probe.text(f"{modules}/modules.builtin") or "").splitlines()}
    built_in |= {name for name in probe.names("/sys/module") if name not in loaded}
    filesystems = {line.split()[-1] for line in (probe.text("/proc/filesystems") or "").splitlines() if line.strip()}
    if "overlay" in filesystems - loaded:
        built_in.add("overlay")
    keys = probe.word("/proc/sys/kernel/keys/root_maxkeys")
    return Kernel(
        release=release,
        options=options,
        source=source,
        loaded=loaded,
        built_in=frozenset(built_in),
        loadable=frozenset(_module_name(line) for line in (probe.text(f"{modules}/modules.dep") or "").splitlines()),
        takes_modules=probe.exists("/proc/modules"),
        loading_disabled=probe.word("/proc/sys/kernel/modules_disabled") == "1",
        directory=probe.exists(modules),
        other_releases=tuple(name for name in probe.names("/lib/modules") if name != release),
        forbidden=_forbidden(probe),
        keys=int(keys) if keys.isdecimal() else None,
    )


def _options(probe: Probe, release: str) -> tuple[dict[str, str] | None, str]:
    packed = probe.bytes("/proc/config.gz")
    if packed is not None:
        try:
            return parse_options(zlib.decompress(packed, _GZIP).decode(errors="replace")), "/proc/config.gz"
        except zlib.error:
            pass  # whatever that is, another file may say it
    for path in (f"/lib/modules/{release}/config", f"/boot/config-{release}"):
        text = None if probe.is_asleep(path) else probe.text(path)
        if text is not None:
            return parse_options(text), path
    return None, ""


def parse_options(text: str) -> dict[str, str]:
    """Options by name without `CONFIG_`; what is not set is not in it."""
    lines = (line.strip() for line in text.splitlines())
    return {name.removeprefix("CONFIG_"): value for name, equals, value in (line.partition("=") for line in lines) if equals}


def _module_name(line: str) -> str:
    """Of a line of modules.dep or modules.builtin."""
    return os.path.basename(line.partition(":")[0].strip()).partition(".ko")[0].replace("-", "_")


def _forbidden(probe: Probe) -> dict[str, str]:
    """`install <module> /bin/false` of modprobe.d(5), as hardening guides have it. `blacklist` does not keep modprobe from a name."""
    found: dict[str, str] = {}
    for directory in ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"):
        for name in probe.names(directory):
            for line in (probe.text(f"{directory}/{name}") or "").splitlines() if name.endswith(".conf") else []:
                words = line.split()
                if len(words) >= 3 and words[0] == "install" and os.path.basename(words[2]) in ("false", "true"):
                    found.setdefault(words[1].replace("-", "_"), f"{directory}/{name}")
    return found


def state(need: Need, kernel: Kernel) -> str:
    """How this kernel has it."""
    if need.module in kernel.loaded:
        return LOADED
    value = None if kernel.options is None else kernel.options.get(need.option)
    if value == "y" or need.module in kernel.built_in:
        return BUILT_IN
    if need.module in kernel.forbidden:
        return FORBIDDEN
    if need.module in kernel.loadable:
        return NO_FILE if kernel.loading_disabled else LOADABLE
    if value == "m":
        return NO_FILE
    if kernel.options is None and not (need.module and kernel.directory):
        return UNKNOWN
    return MISSING


def checks(kernel: Kernel, *, cgroup_v1: bool, iptables: str) -> list[Check]:
    """`iptables` is `nft` or `legacy`, "" for a host without one: then what this kernel has the better part of is asked for."""
    flavour = iptables or _better_flavour(kernel, cgroup_v1=cgroup_v1)
    found = [_config(kernel), _modules(kernel)]
    for feature in REQUIRED + OPTIONAL:
        if feature.iptables in ("", flavour):
            found.append(_feature(feature, kernel, cgroup_v1=cgroup_v1))
    if kernel.keys is not None and kernel.keys <= _ENOUGH_KEYS:
        found.append(
            note(
                "kernel.keyring-size",
                f"root may have {kernel.keys} keys, and each container takes one",
                "`sysctl -w kernel.keys.root_maxkeys=1000000`, and the same in /etc/sysctl.d",
            )
        )
    return found


def _better_flavour(kernel: Kernel, *, cgroup_v1: bool) -> str:
    missing = {
        feature.iptables: sum(state(need, kernel) in (MISSING, NO_FILE) for need in _applying(feature, kernel, cgroup_v1=cgroup_v1))
        for feature in REQUIRED
        if feature.id == "iptables"
    }
    return min(missing, key=lambda flavour: missing[flavour])


def _config(kernel: Kernel) -> Check:
    if kernel.options is None:
        return note(
            "kernel.config",
            f"kernel {kernel.release} says nowhere what it was built with: options without a module are not looked at",
            f"nothing, if Docker works; a file /boot/config-{kernel.release} would tell",
        )
    return ok("kernel.config", f"kernel {kernel.release}, built as {kernel.source} says")


def _modules(kernel: Kernel) -> Check:
    name = "kernel.modules"
    if not kernel.takes_modules:
        return ok(name, "this kernel takes no modules: all it can do is built in")
    if kernel.loading_disabled:
        return warning(
            name,
            "kernel.modules_disabled is set: no module is loaded any more until the next boot",
            "name what Docker needs in /etc/modules-load.d, find what sets the sysctl kernel.modules_disabled, and reboot",
        )
    if kernel.directory:
        return ok(name, f"modules of the running kernel are in /lib/modules/{kernel.release}")
    if kernel.other_releases:
        return warning(
            name,
            f"kernel {kernel.release} runs, but /lib/modules has only {', '.join(kernel.other_releases)}: the kernel's package was "
            "upgraded without a reboot, and no module can be loaded",
            "reboot into the new kernel",
        )
    return note(
        name,
        f"no /lib/modules/{kernel.release}: what is not loaded already cannot be (a container, or the kernel's package was removed)",
        "in a container: load modules on the machine itself; else install the package of the running kernel",
    )


def _applying(feature: Feature, kernel: Kernel, *, cgroup_v1: bool) -> list[Need]:
    return [need for need in feature.needs if need.since <= kernel.version < need.until and (cgroup_v1 or not need.cgroup_v1)]


def _feature(feature: Feature, kernel: Kernel, *, cgroup_v1: bool) -> Check:
    states = {need: state(need, kernel) for need in _applying(feature, kernel, cgroup_v1=cgroup_v1)}
    name = f"kernel.{feature.id}"
    bad = {need: how for need, how in states.items() if how in (MISSING, NO_FILE, FORBIDDEN)}
    if bad:
        what = f"{feature.title}: {_bad_words(bad, kernel)}: {feature.without}"
        return Check(name, "kernel", feature.status, what, _remedy(bad, kernel, optional=feature.status == NOTE))
    unknown = [f"CONFIG_{need.option}" for need, how in states.items() if how == UNKNOWN]
    if unknown and len(unknown) == len(states):
        return note(name, f"{feature.title}: unknown ({', '.join(unknown)})", "nothing, if Docker works")
    return ok(name, f"{feature.title}: {_good_words(states)}")


def _bad_words(bad: dict[Need, str], kernel: Kernel) -> str:
    words = [f"{need.module} is forbidden by {kernel.forbidden[need.module]}" for need, how in bad.items() if how == FORBIDDEN]
    if modules := [need.module or f"CONFIG_{need.option}" for need, how in bad.items() if how == NO_FILE]:
        words.append(f"neither loaded nor loadable: {', '.join(modules)}")
    if options := [f"CONFIG_{need.option}" + (f" ({need.module})" if need.module else "") for need, how in bad.items() if how == MISSING]:
        words.append(f"missing {', '.join(options)}")
    return "; ".join(words)


def _good_words(states: dict[Need, str]) -> str:
    """Modules by name; what is built in, in one word."""
    words = []
    for how in (LOADED, LOADABLE):
        names = [need.module for need, found in states.items() if found == how]
        if names:
            words.append(f"{', '.join(names)} {how}")
    if BUILT_IN in states.values() or not words:
        words.append(("the rest " if words else "") + BUILT_IN)
    return "; ".join(words)


def _remedy(bad: dict[Need, str], kernel: Kernel, *, optional: bool) -> str:
    if FORBIDDEN in bad.values():
        files = sorted({kernel.forbidden[need.module] for need, how in bad.items() if how == FORBIDDEN})
        return f"take the `install … /bin/false` of it out of {', '.join(files)}"
    modules = [need.module for need, how in bad.items() if how == NO_FILE]
    if modules and kernel.loading_disabled:
        return "name it in /etc/modules-load.d and reboot: kernel.modules_disabled is set"
    if modules and not kernel.directory and kernel.other_releases:
        return "reboot: the running kernel's modules went when its package was upgraded"
    if modules:
        return f"install the package with {', '.join(modules)} for kernel {kernel.release} (linux-modules-extra, kernel-modules-extra)"
    if optional:
        return "nothing, unless it is wanted: then boot a kernel that has it, such as a distribution's own"
    return "boot a kernel that has it, such as a distribution's own"
