"""The text of an app's service unit. Pure; the golden tests show whole pods of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from poddir import annotations as names
from stage1_skim import dropin, quoting

if TYPE_CHECKING:
    from stage1_skim.host_unit import HostUnit
    from stage1_skim.launch import Launch
    from stage1_skim.pod import Pod, PodApp


class Streams(NamedTuple):
    """Where systemd connects an app's standard streams: values of StandardInput=, StandardOutput=, StandardError= and TTYPath=."""

    stdout: str
    stderr: str
    stdin: str = "null"
    terminal: str = ""


class Files(NamedTuple):
    """Files of the pod that a unit refers to: the launcher, and the environment where the launcher is not needed."""

    launcher: str
    environment: str


class Command(NamedTuple):
    """What is executed: directly, or by the launcher as the file `instructions` says."""

    launch: Launch
    instructions: str


class Service(NamedTuple):
    """What a unit's text is made of. `by_launcher` is of all commands of the app, `limits` are lines.

    `after` are services that come before, `requires` units that it cannot do without, `sockets` those that it gets descriptors from.
    """

    main: Command
    pre_start: Command | None
    post_stop: Command | None
    by_launcher: bool
    files: Files
    after: tuple[str, ...]
    requires: tuple[str, ...]
    sockets: tuple[str, ...]
    streams: Streams
    limits: tuple[str, ...]


def service_unit(pod: Pod, app: PodApp, service: Service, host_unit: HostUnit | None = None) -> str:
    """`host_unit` is the one of the host that the app stands for. Raises UserError for a drop-in that does not hold."""
    notify = _supports_notify(app)
    lines = [
        "# Written by stage1_skim for a pod; removed with it.",
        "[Unit]",
        f"Description={quoting.description(_title(pod, app))}",
        f"BindsTo={pod.scope}",
        # Requires= of other apps would restart and stop this one with them; the supervisor starts it when they are up.
        f"After={' '.join((pod.scope, *service.after, *service.requires))}",
        *([f"Requires={' '.join(service.requires)}"] if service.requires else []),
        "CollectMode=inactive-or-failed",
        "",
        "[Service]",
        f"Type={'notify' if notify else 'exec'}",
        *_commands(service),
        # How long an app takes to be ready, or its handler to prepare, is the image's affair; for all else it does not matter.
        *(["TimeoutStartSec=infinity"] if notify or service.pre_start else []),
        f"Slice={pod.slice}",
        *([f"Sockets={' '.join(service.sockets)}"] if service.sockets else []),
        f"SyslogIdentifier={quoting.setting(app.name)}",
        *_connections(service.streams),
        *service.limits,
    ]
    text = "\n".join(lines) + "\n"
    image = app.image.annotation(names.SKIM_UNIT)
    if image:
        text += f"\n# From image {app.image.name}.\n" + dropin.check(image, f"image {app.image.name}")
    entry = app.entry.annotation(names.SKIM_UNIT)
    if entry:
        text += "\n# From the pod manifest.\n" + dropin.check(entry, f'app "{app.name}"')
    if host_unit:
        from stage1_skim.host_unit import drop_in_text

        text += f"\n# From the host's {host_unit.name}.\n" + drop_in_text(host_unit)
    return text


def _title(pod: Pod, app: PodApp) -> str:
    version = app.image.label("version")
    image = app.image.name + (f":{version}" if version else "")
    return f"{app.name} of pod {pod.name or pod.uuid} ({image})"


def _commands(service: Service) -> list[str]:
    """The launcher is told everything in a file; systemd's own way is shorter by the launcher's start-up and taken where it says it all."""
    lines = [_command(service, "ExecStart", service.main)]
    # Handlers are root, and no restriction of the app's is theirs: `+`.
    if service.pre_start:
        lines.append(_command(service, "ExecStartPre", service.pre_start, "+"))
    if service.post_stop:
        lines.append(_command(service, "ExecStopPost", service.post_stop, "+"))
    if not service.by_launcher:
        lines.append(f"WorkingDirectory={quoting.setting(service.main.launch.directory)}")
        lines.append(f"EnvironmentFile={quoting.setting(service.files.environment)}")
    return lines


def _command(service: Service, setting: str, command: Command, prefix: str = "") -> str:
    if service.by_launcher:
        return f"{setting}={prefix}:{quoting.exec_word(service.files.launcher)} {quoting.exec_word(command.instructions)}"
    words = (command.launch.program, *command.launch.argv)
    return f"{setting}={prefix}@:" + " ".join(map(quoting.exec_word, words))


def _connections(streams: Streams) -> list[str]:
    lines = [f"StandardInput={streams.stdin}"] if streams.stdin != "null" else []
    if streams.terminal:
        lines.append(f"TTYPath={streams.terminal}")
    return [*lines, f"StandardOutput={streams.stdout}", f"StandardError={streams.stderr}"]


def _supports_notify(app: PodApp) -> bool:
    """strconv.ParseBool of the annotation, as rkt reads it."""
    return (app.image.annotation(names.IMAGE_SYSTEMD_NOTIFY) or "") in ("1", "t", "T", "TRUE", "true", "True")
