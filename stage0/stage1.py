"""The stage1 of a pod: its entrypoints and the interface it speaks (contract sections 2.6 and 3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.image import parse_image_manifest
from poddir import annotations as names_of
from poddir import layout

from .output import Failure, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appc.image import ImageManifest

    from .dns import Names


class RunOptions(NamedTuple):
    """What `run` and `run-prepared` hand to stage1. `networks` maps names to arguments, {} if none was chosen."""

    networks: Mapping[str, str]
    names: Names
    debug: bool = False
    interactive: bool = False
    local_config: str = ""
    hostname: str = ""
    ipc: str = ""
    insecure: frozenset[str] = frozenset()


class Stage1(NamedTuple):
    """A pod's stage1: the pod directory and the stage1 image's manifest."""

    pod: str
    manifest: ImageManifest

    def entrypoint(self, name: str) -> str:
        """The path inside the stage1 rootfs that an annotation names. Raises UserError."""
        found = self.manifest.annotation(name)
        if found is None:
            raise UserError(f"entrypoint {quote(name)} not found")
        return found

    def program(self, name: str, rootfs: str | None = None) -> str:
        """The full path of an entrypoint, in the pod or below another copy of the rootfs. Raises UserError."""
        return os.path.join(rootfs or layout.stage1_rootfs(self.pod), self.entrypoint(name).lstrip("/"))

    def interface_version(self) -> int:
        """1 where the image does not say. Raises UserError."""
        text = self.manifest.annotation(names_of.STAGE1_INTERFACE_VERSION)
        if text is None:
            return 1
        try:
            return int(text)
        except ValueError:
            raise Failure("error parsing interface version") from UserError(f"{quote(text)} is no integer")


def read_stage1(pod: str) -> Stage1:
    """Raises UserError."""
    try:
        with open(layout.stage1_manifest(pod), "rb") as file:
            return Stage1(pod=pod, manifest=parse_image_manifest(file.read()))
    except OSError as error:
        raise Failure("error reading pod manifest") from error


def run_arguments(stage1: Stage1, uuid: str, options: RunOptions) -> tuple[list[str], list[str]]:
    """argv of stage1's `run`, and warnings about options that this stage1 is too old for (the table of section 2.6). Raises UserError."""
    version = stage1.interface_version()
    warnings: list[str] = []
    try:
        arguments = [stage1.program(names_of.STAGE1_RUN)]
    except UserError as error:
        raise Failure("error determining 'run' entrypoint") from error

    def versioned(least: int, argument: str, warning: str) -> None:
        if version >= least:
            arguments.append(argument)
        elif warning:
            warnings.append(f"warning: {warning}")

    if options.debug:
        arguments.append("--debug")
    arguments.append("--net=" + network_list(options.networks))
    if options.interactive:
        arguments.append("--interactive")
    if options.local_config:
        arguments.append(f"--local-config={options.local_config}")
    if options.hostname:
        versioned(2, f"--hostname={options.hostname}", "--hostname option is not supported by stage1")
    if options.names.resolv_mode != "default" or options.names.hosts_mode != "default":
        mode = f"--dns-conf-mode=resolv={options.names.resolv_mode},hosts={options.names.hosts_mode}"
        versioned(4, mode, "--dns-conf-mode option not supported by stage1")
    for feature, argument in (
        ("capabilities", "--disable-capabilities-restriction"),
        ("paths", "--disable-paths"),
        ("seccomp", "--disable-seccomp"),
    ):
        if feature in options.insecure:
            versioned(3, argument, "")
    if options.ipc:
        versioned(6, f"--ipc={options.ipc}", "--ipc option is not supported by stage1")
    return [*arguments, uuid], warnings


def network_list(networks: Mapping[str, str]) -> str:
    """The value of stage1's --net."""
    return ",".join(f"{name}:{arguments}" if arguments else name for name, arguments in networks.items()) or "default"


def gc_arguments(stage1: Stage1, uuid: str, *, debug: bool, local_config: str) -> list[str]:
    """argv of stage1's `gc`. Raises UserError."""
    try:
        arguments = [stage1.program(names_of.STAGE1_GC)]
    except UserError as error:
        raise Failure("error determining 'gc' entrypoint") from error
    if debug:
        arguments.append("--debug")
    if local_config and stage1.interface_version() >= 5:
        arguments += ["--local-config", local_config]
    return [*arguments, uuid]


def enter_arguments(stage1: Stage1, rootfs: str, pid: int, app: str, command: Sequence[str]) -> list[str]:
    """argv of stage1's `enter`, which is executed from the rendered image. Raises UserError."""
    return [stage1.program(names_of.STAGE1_ENTER, rootfs), f"--pid={pid}", f"--appname={app}", "--", *command]


def stop_arguments(stage1: Stage1, uuid: str, *, force: bool) -> list[str]:
    """argv of stage1's `stop`. Raises UserError."""
    try:
        program = stage1.program(names_of.STAGE1_STOP)
    except UserError as error:
        raise UserError(f"rkt stop not implemented for pod's stage1: {error}") from None
    return [program, *(["--force"] if force else []), uuid]
