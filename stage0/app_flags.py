"""The flags of `run` and `prepare` that belong to the image before them, and the form that images and flags take turns in (section 4.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from appc import isolators
from appc.errors import UserError

from . import flag_values
from .flags import Flag
from .output import quote
from .request import AppRequest
from .times import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appc.pod import Mount, Volume

    from .flags import FlagSet

# Below this a memory limit is a mistake, such as 16m (thousandths of a byte) for 16M.
_LEAST_MEMORY = 4096
_STREAM_MODES = {"stdin": ("null", "stream", "tty"), "stdout": ("log", "null", "stream", "tty"), "stderr": ("log", "null", "stream", "tty")}


class AppFlags:
    """Collects the images of a command line with their flags: `apps`, and `mounts` and `volumes` for all of them."""

    def __init__(self) -> None:
        self.apps: list[AppRequest] = []
        self.mounts: list[Mount] = []
        self.volumes: list[Volume] = []

    def parse(self, arguments: Sequence[str], flags: FlagSet) -> None:
        """Read `IMAGE [--flags] [-- ARGUMENTS [---]] IMAGE …`. Raises UserError; FlagError for a flag that is wrong."""
        had_arguments = 0  # how many images there were when the last list of arguments began
        index = 0
        while index < len(arguments):
            argument = arguments[index]
            if argument == "--":
                if had_arguments == len(self.apps):
                    raise UserError(
                        "only one set of app arguments allowed per image" if self.apps else "an image is required before any app arguments"
                    )
                had_arguments = len(self.apps)
                end = arguments.index("---", index) if "---" in arguments[index:] else len(arguments)
                # Empty arguments are kept, which rkt drops.
                self._set(arguments=tuple(arguments[index + 1 : end]))
                index = end + 1
            elif argument in ("", "---"):
                index += 1
            else:
                index += self._take_flags_or_image(arguments[index:], flags)
        self._check_mounts()

    def _take_flags_or_image(self, arguments: Sequence[str], flags: FlagSet) -> int:
        """How many arguments were taken. Flag parsing swallows a `--`, which has to be seen by the caller."""
        left = flags.parse(arguments)
        taken = len(arguments) - len(left)
        if taken == 0:
            self.apps.append(AppRequest(image=arguments[0]))
            return 1
        return taken - 1 if arguments[taken - 1] == "--" else taken

    def _check_mounts(self) -> None:
        names = {volume.name for volume in self.volumes}
        for mount in (*self.mounts, *(mount for app in self.apps for mount in app.mounts)):
            if mount.volume not in names:
                raise UserError(f"dangling mount point {quote(mount.path)}: volume {quote(mount.volume)} not found")

    def declare(self, flags: FlagSet) -> None:
        """Add the flags that follow an image, and --volume and --mount."""
        self._declare_overrides(flags)
        self._declare_maps(flags)
        self._declare_isolators(flags)
        add = self._adder(flags)
        add("mount", "mount point binding a volume to a path within an app", self._mount, anywhere=True)
        add("volume", "volumes to make available in the pod", lambda text: self.volumes.append(flag_values.volume(text)), anywhere=True)
        if is_experiment_enabled("attach"):
            for stream, modes in _STREAM_MODES.items():
                add(stream, f"{stream} mode for the preceding application", self._stream(stream, modes), hidden=True)

    def _declare_overrides(self, flags: FlagSet) -> None:
        add = self._adder(flags)
        add("signature", "local signature file to use in validating the preceding image", self._once("signature"))
        add("exec", "override the exec command for the preceding image", self._once("exec"))
        add("working-dir", "override the working directory of the preceding image", self._field("working_directory"))
        add("readonly-rootfs", "if set, the app's rootfs will be mounted read-only", self._read_only)
        add("user", "user override for the preceding image (example: '--user=user')", self._field("user"))
        add("group", "group override for the preceding image (example: '--group=group')", self._field("group"))
        add(
            "supplementary-gids",
            "supplementary group IDs override for the preceding image (examples: '--supplementary-gids=1024,2048'",
            self._gids,
        )
        name = "set the name of the app (example: '--name=foo'). If not set, then the app name default to the image's name"
        add("name", name, self._field("name"))

    def _declare_maps(self, flags: FlagSet) -> None:
        add = self._adder(flags)
        for flag, field, what in (
            ("annotation", "annotations", "annotations"),
            ("user-annotation", "user_annotations", "annotations"),
            ("user-label", "user_labels", "labels"),
            ("environment", "environment", "environment variables"),
        ):
            add(flag, f"set the app's {what} (example: '--{flag}=foo=bar')", self._entry(flag, field))

    def _declare_isolators(self, flags: FlagSet) -> None:
        add = self._adder(flags)
        add("memory", "memory limit for the preceding image (example: '--memory=16Mi', '--memory=50M', '--memory=1G')", self._memory)
        add("cpu", "cpu limit for the preceding image (example: '--cpu=500m')", self._cpu)
        shares = "cpu-shares assigns the specified CPU time share weight (example: '--cpu-shares=2048')"
        add("cpu-shares", shares, self._number("cpu_shares", isolators.CPU_SHARES))
        add("oom-score-adj", "oom-score-adj isolator override", self._number("oom_score_adj", isolators.OOM_SCORE_ADJ))
        add("seccomp", "seccomp filter override (example: '--seccomp mode=retain,errno=EPERM,chmod,chown')", self._field("seccomp"))
        for name, field, isolator, example in (
            ("retain", "capabilities_retain", isolators.CAPABILITIES_RETAIN, "SYS_ADMIN"),
            ("remove", "capabilities_remove", isolators.CAPABILITIES_REMOVE, "MKNOD"),
        ):
            usage = f"capability to {name} (example: '--caps-{name}=CAP_{example}')"
            add(f"caps-{name}", usage, self._capabilities(field, isolator))
            add(f"cap-{name}", usage, self._capabilities(field, isolator), deprecated=f"use --caps-{name} instead")

    def _adder(self, flags: FlagSet) -> Callable[..., None]:
        def add(
            name: str, usage: str, accept: Callable[[str], None], *, anywhere: bool = False, hidden: bool = False, deprecated: str = ""
        ) -> None:
            def checked(text: str) -> None:
                if not anywhere and not self.apps:
                    shown = name.replace("cap-", "caps-") if name.startswith("cap-") else name
                    raise ValueError(f"--{shown} must follow an image")
                accept(text)

            flags.add(Flag(name=name, accept=checked, usage=usage, hidden=hidden, deprecated=deprecated))

        return add

    def _set(self, **fields: Any) -> None:
        self.apps[-1] = self.apps[-1]._replace(**fields)

    def _field(self, field: str) -> Callable[[str], None]:
        return lambda text: self._set(**{field: text})

    def _once(self, field: str) -> Callable[[str], None]:
        def accept(text: str) -> None:
            if getattr(self.apps[-1], field):
                raise ValueError(f"--{field} specified multiple times for the same image")
            self._set(**{field: text})

        return accept

    def _entry(self, flag: str, field: str) -> Callable[[str], None]:
        def accept(text: str) -> None:
            key, value = flag_values.key_and_value(flag, text)
            self._set(**{field: {**(getattr(self.apps[-1], field) or {}), key: value}})

        return accept

    def _stream(self, stream: str, modes: tuple[str, ...]) -> Callable[[str], None]:
        def accept(text: str) -> None:
            if text not in modes:
                raise ValueError(f"invalid {stream} mode {quote(text)}")
            self._set(streams={**(self.apps[-1].streams or {}), stream: text})

        return accept

    def _mount(self, text: str) -> None:
        mount = flag_values.mount(text)
        if self.apps:
            self._set(mounts=(*self.apps[-1].mounts, mount))
        else:
            self.mounts.append(mount)

    def _read_only(self, text: str) -> None:
        try:
            self._set(read_only_root_fs=parse_boolean(text))
        except ValueError:
            raise ValueError("--readonly-rootfs must be set with a boolean") from None

    def _gids(self, text: str) -> None:
        try:
            gids = tuple(flag_values.integer(part) for part in text.split(","))
        except ValueError:
            raise ValueError("--supplementary-gids must be integers") from None
        self._set(supplementary_gids=(*(self.apps[-1].supplementary_gids or ()), *gids))

    def _memory(self, text: str) -> None:
        isolator = isolators.resource_isolator(isolators.MEMORY, text)
        limit = isolators.resource(isolator).limit
        size = limit.whole() if limit else 0
        if size < _LEAST_MEMORY:
            raise ValueError(f"memory limit of {size} bytes too low. Try a reasonable value, such as --memory=16M")
        self._set(memory=isolator)

    def _cpu(self, text: str) -> None:
        self._set(cpu=isolators.resource_isolator(isolators.CPU, text))

    def _number(self, field: str, name: str) -> Callable[[str], None]:
        return lambda text: self._set(**{field: isolators.number_isolator(name, flag_values.integer(text))})

    def _capabilities(self, field: str, name: str) -> Callable[[str], None]:
        return lambda text: self._set(**{field: isolators.capabilities_isolator(name, text.split(","))})


def is_experiment_enabled(name: str) -> bool:
    """Whether the environment switches one of rkt's experiments on."""
    try:
        return parse_boolean(os.environ.get(f"RKT_EXPERIMENT_{name.upper()}", ""))
    except ValueError:
        return False
