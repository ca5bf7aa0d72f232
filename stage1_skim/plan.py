"""The whole plan of a pod: what will be mounted, written and started. A pure value, which `--debug` prints and golden tests compare."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from poddir import annotations as names
from poddir import layout
from stage1_skim import dropin, quoting, units
from stage1_skim.foreign import check_program, foreign_image
from stage1_skim.launch import app_launch, handler_launch
from stage1_skim.limits import app_limits
from stage1_skim.order import start_order
from stage1_skim.places import UNIT_DIRECTORY
from stage1_skim.sockets import app_sockets
from stage1_skim.volumes import app_volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stage1_skim.foreign import ForeignImage
    from stage1_skim.launch import Launch
    from stage1_skim.limits import Limits
    from stage1_skim.pod import Pod, PodApp
    from stage1_skim.request import Request
    from stage1_skim.volumes import VolumeMount

ENTRYPOINTS = "skim"  # the program's folder in the stage1 image
LAUNCHER = "launch"
MAIN = ""  # an app's own command, beside those of its event handlers
PRIVATE = "rkt/skim"  # what only root and systemd may read, in the stage1 rootfs


class File(NamedTuple):
    """A file to write: `mode` in full, `text` as it will stand."""

    path: str
    mode: int
    text: str


class Library(NamedTuple):
    """An image's directory of libraries, which its programs expect at `/run/skim/lib/<digest>`."""

    digest: str
    source: str


class AppPlan(NamedTuple):
    """`read_only`: the app's way to its root is, but for the volumes in it."""

    name: str
    service: str
    launch: Launch
    mounts: tuple[VolumeMount, ...]
    library: Library | None
    foreign: ForeignImage | None
    read_only: bool


class Plan(NamedTuple):
    """Apps in the order of their start. `files` come before, `unit_files` after the mounts."""

    apps: tuple[AppPlan, ...]
    files: tuple[File, ...]
    unit_files: tuple[File, ...]
    warnings: tuple[str, ...]

    def text(self) -> str:
        """For people: what `--debug` shows."""
        lines = []
        for app in self.apps:
            lines.append(f"app {app.name}: {app.service}{', its root read-only' if app.read_only else ''}")
            lines.extend(f"  mount {mount.source} on {mount.target}{' read-only' if mount.read_only else ''}" for mount in app.mounts)
            if app.library:
                lines.append(f"  libraries {app.library.digest} from {app.library.source}")
            if app.foreign:
                lines.append(f"  relocated {f'above {app.foreign.tree}' if app.foreign.tree else 'in place'}: image {app.foreign.image}")
        lines.extend(f"{file.path}:\n" + "".join(f"  {line}\n" for line in file.text.splitlines()) for file in self.unit_files)
        return "\n".join(lines)


def make_plan(pod: Pod, request: Request, *, streams: Callable[[str], units.Streams]) -> Plan:
    """`streams` says where an app's output goes. Raises UserError, before anything was done, for whatever cannot be started."""
    apps: list[AppPlan] = []
    files: list[File] = []
    unit_files: list[File] = []
    warnings: list[str] = _ignored_by_pod(pod)
    if request.host_units:
        from stage1_skim import host_unit

        warnings.extend(host_unit.warnings(request.host_units))
    for app, after in start_order(pod):
        commands = _commands(pod, app, request)
        by_launcher = any(command.launch.needs_launcher for command in commands.values())
        main = commands[MAIN]
        limits = app_limits(app, request.rules, launcher=by_launcher, is_root=main.launch.credentials.uid == 0)
        volumes = app_volumes(pod, app)
        given = app_sockets(pod, app, request.sockets)
        own_sockets = (given.unit,) if given.unit else ()
        service = units.Service(
            main=main,
            pre_start=commands.get("pre-start"),
            post_stop=commands.get("post-stop"),
            by_launcher=by_launcher,
            files=_files(pod, app),
            after=tuple(map(pod.service, after)),
            requires=tuple(unit.name for unit in own_sockets),
            sockets=given.names,
            streams=streams(app.name),
            limits=limits.directives,
        )
        apps.append(_app_plan(pod, app, main.launch, volumes.mounts))
        files.extend(_app_files(pod, app, service, commands, limits))
        for name, text in (*own_sockets, (pod.service(app.name), units.service_unit(pod, app, service, request.host_units.get(app.name)))):
            unit_files.append(File(path=os.path.join(UNIT_DIRECTORY, name), mode=0o644, text=text))
        warnings.extend(_loader_warnings(pod, app, commands))
        warnings.extend((*volumes.warnings, *given.warnings, *limits.warnings, *_ignored_fields(pod, app)))
    return Plan(apps=tuple(apps), files=tuple(files), unit_files=tuple(unit_files), warnings=tuple(warnings))


def _commands(pod: Pod, app: PodApp, request: Request) -> dict[str, units.Command]:
    """The app's own and those of its event handlers, by the handler's name."""
    launch = app_launch(pod, app, request.inherited, metadata_url=request.metadata_url)
    launches = {MAIN: launch}
    for handler in app.app.event_handlers:
        launches[handler.name] = handler_launch(pod, app, launch, handler)
    return {
        name: units.Command(launch=launch, instructions=_private(pod, f"{app.name}{'.' + name if name else ''}.json"))
        for name, launch in launches.items()
    }


def _loader_warnings(pod: Pod, app: PodApp, commands: Mapping[str, units.Command]) -> list[str]:
    way = len(os.path.join(pod.public, app.name))
    programs = dict.fromkeys(command.launch.program[way:] for command in commands.values())
    return [warning for warning in (check_program(app, program) for program in programs) if warning]


def _app_plan(pod: Pod, app: PodApp, launch: Launch, mounts: tuple[VolumeMount, ...]) -> AppPlan:
    return AppPlan(
        name=app.name,
        service=pod.service(app.name),
        launch=launch,
        mounts=mounts,
        library=_library(app),
        foreign=foreign_image(pod, app),
        read_only=app.entry.read_only_root_fs,
    )


def _private(pod: Pod, name: str) -> str:
    return os.path.join(layout.stage1_rootfs(pod.directory), PRIVATE, name)


def _files(pod: Pod, app: PodApp) -> units.Files:
    return units.Files(
        launcher=os.path.join(layout.stage1_rootfs(pod.directory), ENTRYPOINTS, LAUNCHER),
        environment=_private(pod, f"{app.name}.env"),
    )


def _app_files(pod: Pod, app: PodApp, service: units.Service, commands: Mapping[str, units.Command], limits: Limits) -> list[File]:
    """`rkt/env/<app>` for whoever reads it as rkt does (contract section 5.4), and what systemd or the launcher reads."""
    environment = service.main.launch.environment
    plain = "".join(f"{name}={value}\n" for name, value in environment.items())
    files = [File(path=layout.app_environment(pod.directory, app.name), mode=0o640, text=plain)]
    if not service.by_launcher:
        text = "".join(quoting.environment_assignment(name, value) for name, value in environment.items())
        return [*files, File(path=service.files.environment, mode=0o600, text=text)]
    for name, command in commands.items():
        text = _instructions(app, command.launch, limits if name == MAIN else None)
        files.append(File(path=command.instructions, mode=0o600, text=text))
    return files


def _instructions(app: PodApp, launch: Launch, limits: Limits | None) -> str:
    """What `launch_app` reads."""
    import json

    credentials = launch.credentials
    told: dict[str, object] = {
        "program": launch.program,
        "argv": launch.argv,
        "directory": launch.directory,
        "environment": dict(launch.environment),
        "uid": credentials.uid,
        "gid": credentials.gid,
        "groups": credentials.groups,
    }
    if dropin.service_setting(app, "IgnoreSIGPIPE").lower() in ("no", "n", "false", "f", "off", "0"):
        told["ignores SIGPIPE"] = False
    if limits and limits.given_up:
        told["capabilities to give up"] = limits.given_up
    if limits and limits.calls:
        calls = limits.calls
        told["system calls"] = {"allowing": calls.allowing, "names": calls.names, "errno": calls.errno}
    return json.dumps(told)


def _library(app: PodApp) -> Library | None:
    digest = app.image.annotation(names.SKIM_LIBRARIES)
    return Library(digest=digest, source=os.path.join(app.root, "usr/lib/skim", digest)) if digest else None


def _ignored_by_pod(pod: Pod) -> list[str]:
    """Fields that this stage1 does not honour are named, never dropped in silence."""
    fields = [f"isolator {isolator.name} of the whole pod" for isolator in pod.manifest.isolators]
    fields.extend(f"annotation {name}" for name in (names.POD_LOG_MODE, names.POD_LOG_DIRECTORY) if pod.manifest.annotation(name))
    return [f"{field} is not supported by stage1_skim, and ignored" for field in fields]


def _ignored_fields(pod: Pod, app: PodApp) -> list[str]:
    fields = []
    for name, usual in ((names.APP_STDIN, ("null",)), (names.APP_STDOUT, ("log", "null")), (names.APP_STDERR, ("log", "null"))):
        value = app.entry.annotation(name)
        if value is not None and value not in usual:
            fields.append(f"annotation {name}={value}")
    for port in app.app.ports:
        exposed = next((exposed for exposed in pod.manifest.ports if exposed.name == port.name), None)
        if exposed and not port.socket_activated and (exposed.host_port != port.port or exposed.host_ip):
            fields.append(f"exposing port {port.name} as {exposed.host_ip or ''}:{exposed.host_port}")
    return [f'app "{app.name}": {field} is not supported by stage1_skim, and ignored' for field in fields]
