"""The app section of an image, and the small values that image and pod manifests share (specification: aci.md, types.md)."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from appc.document import Fields, keyed
from appc.isolators import Isolator, check_combination, parse_isolator
from appc.names import is_ac_identifier, is_ac_name, is_environment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appc.document import Json
    from appc.errors import Problem

NO_STRINGS: Mapping[str, str] = MappingProxyType({})

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "linux": ("amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64", "ppc64le", "s390x"),
    "freebsd": ("amd64", "i386", "arm"),
    "darwin": ("x86_64", "i386"),
}

_PAIR = keyed(("name", "value"))
_MOUNT_POINT = keyed(("name", "path", "readOnly"))
_PORT = keyed(("name", "protocol", "port", "count", "socketActivated"))
_EVENT_HANDLER = keyed(("name", "exec"))
_APP = keyed(
    (
        "exec",
        "eventHandlers",
        "user",
        "group",
        "supplementaryGIDs",
        "workingDirectory",
        "environment",
        "mountPoints",
        "ports",
        "isolators",
        "userAnnotations",
        "userLabels",
    )
)


class Label(NamedTuple):
    name: str
    value: str


class Annotation(NamedTuple):
    name: str
    value: str


class EnvironmentVariable(NamedTuple):
    name: str
    value: str


class MountPoint(NamedTuple):
    """Where the app wants a volume: `path` inside the image."""

    name: str
    path: str
    read_only: bool = False


class Port(NamedTuple):
    name: str
    protocol: str
    port: int
    count: int = 1  # type: ignore[assignment]  # the specification's name, over tuple.count
    socket_activated: bool = False


class EventHandler(NamedTuple):
    """`name` is pre-start or post-stop."""

    name: str
    exec: tuple[str, ...]


class App(NamedTuple):
    """`exec` may be empty (the executor refuses that, not the parser). `user` and `group` are names, numbers or paths in the image."""

    exec: tuple[str, ...]
    user: str
    group: str
    event_handlers: tuple[EventHandler, ...] = ()
    supplementary_gids: tuple[int, ...] = ()
    working_directory: str = ""
    environment: tuple[EnvironmentVariable, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    ports: tuple[Port, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    user_annotations: Mapping[str, str] = NO_STRINGS
    user_labels: Mapping[str, str] = NO_STRINGS


def value_of(pairs: Iterable[Label | Annotation | EnvironmentVariable], name: str) -> str | None:
    """The value of the label, annotation or variable of that name."""
    for pair in pairs:
        if pair.name == name:
            return pair.value
    return None


def parse_app(value: Json, path: str, problems: list[Problem]) -> App:
    fields = Fields(value, path, problems, _APP)
    app = App(
        exec=fields.strings("exec"),
        user=fields.string("user", required=True, executed=True),
        group=fields.string("group", required=True, executed=True),
        event_handlers=fields.array("eventHandlers", _parse_event_handler),
        supplementary_gids=fields.integers("supplementaryGIDs"),
        working_directory=fields.string("workingDirectory", check=_is_absolute_or_empty, expected="an absolute path", executed=True),
        environment=fields.array("environment", _parse_variable),
        mount_points=fields.array("mountPoints", _parse_mount_point),
        ports=fields.array("ports", parse_port),
        isolators=fields.array("isolators", parse_isolator),
        user_annotations=fields.string_map("userAnnotations"),
        user_labels=fields.string_map("userLabels"),
    )
    fields.unique("eventHandlers", (handler.name for handler in app.event_handlers), "event handler")
    fields.unique("environment", (variable.name for variable in app.environment), "environment variable")
    check_combination(app.isolators, fields)
    return app


def parse_labels(fields: Fields) -> tuple[Label, ...]:
    labels = tuple(Label(name=name, value=value) for name, value in fields.array("labels", _parse_pair))
    fields.unique("labels", (label.name for label in labels), "label")
    for index, label in enumerate(labels):
        if label.name == "name":
            fields.problem(f"labels[{index}].name", 'no label may be called "name"')
    operating_system, architecture = value_of(labels, "os"), value_of(labels, "arch")
    if operating_system is not None:
        architectures = ARCHITECTURES.get(operating_system)
        if architectures is None:
            fields.problem("labels", f'bad os "{operating_system}" (must be one of: {" ".join(sorted(ARCHITECTURES))})')
        elif architecture is not None and architecture not in architectures:
            fields.problem("labels", f'bad arch "{architecture}" for {operating_system} (must be one of: {" ".join(architectures)})')
    return labels


def parse_annotations(fields: Fields) -> tuple[Annotation, ...]:
    annotations = tuple(Annotation(name=name, value=value) for name, value in fields.array("annotations", _parse_pair))
    fields.unique("annotations", (annotation.name for annotation in annotations), "annotation")
    for index, annotation in enumerate(annotations):
        if annotation.name == "created" and not _is_rfc3339(annotation.value):
            fields.problem(f"annotations[{index}].value", f'"{annotation.value}" is no date (RFC 3339 is expected)')
        elif annotation.name in ("homepage", "documentation") and not annotation.value.lower().startswith(("http:", "https:")):
            fields.problem(f"annotations[{index}].value", f'"{annotation.value}" is not an http or https URL')
    return annotations


def parse_port(value: Json, path: str, problems: list[Problem]) -> Port:
    fields = Fields(value, path, problems, _PORT)
    number = fields.integer("port", required=True, low=1, high=65535)
    count = fields.integer("count", low=0, high=65535) or 1
    port = Port(
        name=fields.string("name", required=True, check=is_ac_name, expected="an AC name"),
        protocol=fields.string("protocol"),
        port=number or 0,
        count=count,
        socket_activated=fields.boolean("socketActivated") or False,
    )
    if port.port + count > 65536:
        fields.problem("count", "the end of the port range must be between 1 and 65535")
    return port


def _parse_pair(value: Json, path: str, problems: list[Problem]) -> tuple[str, str]:
    fields = Fields(value, path, problems, _PAIR)
    return fields.string("name", required=True, check=is_ac_identifier, expected="an AC identifier"), fields.string("value")


def _parse_variable(value: Json, path: str, problems: list[Problem]) -> EnvironmentVariable:
    fields = Fields(value, path, problems, _PAIR)
    name = fields.string("name", required=True, check=is_environment_name, expected="an environment variable's name")
    return EnvironmentVariable(name=name, value=fields.string("value", executed=True))


def _parse_mount_point(value: Json, path: str, problems: list[Problem]) -> MountPoint:
    fields = Fields(value, path, problems, _MOUNT_POINT)
    return MountPoint(
        name=fields.string("name", required=True, check=is_ac_name, expected="an AC name"),
        path=fields.string("path", required=True, executed=True),
        read_only=fields.boolean("readOnly") or False,
    )


def _parse_event_handler(value: Json, path: str, problems: list[Problem]) -> EventHandler:
    fields = Fields(value, path, problems, _EVENT_HANDLER)
    name = fields.string("name", required=True, check=lambda text: text in ("pre-start", "post-stop"), expected="pre-start or post-stop")
    return EventHandler(name=name, exec=fields.strings("exec"))


def _is_rfc3339(text: str) -> bool:
    date, time = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", r"([01]\d|2[0-3]):[0-5]\d"
    return re.fullmatch(rf"{date}T{time}:[0-5]\d(\.\d+)?(Z|[+-]{time})", text, re.ASCII) is not None


def _is_absolute_or_empty(path: str) -> bool:
    return path == "" or path.startswith("/")


def without_empty(members: Mapping[str, Any], kept: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object's members without what Go's omitempty leaves out."""
    return {
        name: value
        for name, value in members.items()
        if name in kept or (value is not None and value != "" and value != [] and value != {} and value is not False)
    }


def pairs_json(pairs: Iterable[Label | Annotation | EnvironmentVariable]) -> list[dict[str, Any]]:
    return [{"name": pair.name, "value": pair.value} for pair in pairs]


def port_json(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "protocol": port.protocol,
        "port": port.port,
        "count": port.count,
        "socketActivated": port.socket_activated,
    }


def isolators_json(isolators: Iterable[Isolator]) -> list[dict[str, Any]]:
    return [{"name": isolator.name, "value": isolator.value} for isolator in isolators]


def app_json(app: App) -> dict[str, Any]:
    """Members in the order of the specification's Go type."""
    return without_empty(
        {
            "exec": list(app.exec),
            "eventHandlers": [{"name": handler.name, "exec": list(handler.exec)} for handler in app.event_handlers],
            "user": app.user,
            "group": app.group,
            "supplementaryGIDs": list(app.supplementary_gids),
            "workingDirectory": app.working_directory,
            "environment": pairs_json(app.environment),
            "mountPoints": [
                {"name": point.name, "path": point.path, **({"readOnly": True} if point.read_only else {})} for point in app.mount_points
            ],
            "ports": [port_json(port) for port in app.ports],
            "isolators": isolators_json(app.isolators),
            "userAnnotations": dict(sorted(app.user_annotations.items())),
            "userLabels": dict(sorted(app.user_labels.items())),
        },
        kept=("exec", "user", "group"),
    )
