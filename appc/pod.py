"""Pod manifests (specification: pods.md; contract section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from appc.app import (
    NO_STRINGS,
    Annotation,
    App,
    Label,
    Port,
    app_json,
    isolators_json,
    pairs_json,
    parse_annotations,
    parse_app,
    parse_labels,
    parse_port,
    port_json,
    value_of,
    without_empty,
)
from appc.document import Fields, dump, keyed, load
from appc.errors import ManifestError
from appc.image import parse_version
from appc.image_id import is_hash
from appc.isolators import Isolator, parse_pod_isolator
from appc.names import is_ac_identifier, is_ac_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.document import Json
    from appc.errors import Problem

KIND = "PodManifest"
EMPTY_VOLUME_MODE = "0755"
LARGEST_ID = 2**32 - 2  # of a user or group: 2**32 - 1 means "leave it" to Linux
_POD = keyed(("acVersion", "acKind", "apps", "volumes", "isolators", "annotations", "ports", "userAnnotations", "userLabels"))
_APP_ENTRY = keyed(("name", "image", "app", "readOnlyRootFS", "mounts", "annotations"))
_IMAGE = keyed(("name", "id", "labels"))
_MOUNT = keyed(("volume", "path", "appVolume"))
_VOLUME = keyed(("name", "kind", "source", "readOnly", "recursive", "mode", "uid", "gid"))
_EXPOSED_PORT = keyed(("name", "hostPort", "hostIP", "podPort"))


class Volume(NamedTuple):
    """`kind` host: `source` is an absolute path of the host. `kind` empty: `mode` (octal digits), `uid` and `gid` are always set.

    `recursive` None is for the executor to decide (contract section 4.5).
    """

    name: str
    kind: str
    source: str | None = None
    read_only: bool | None = None
    recursive: bool | None = None
    mode: str | None = None
    uid: int | None = None
    gid: int | None = None


class Mount(NamedTuple):
    """`path` inside the app; `app_volume` replaces the pod's volume of that name."""

    volume: str
    path: str
    app_volume: Volume | None = None


class RuntimeImage(NamedTuple):
    id: str
    name: str | None = None
    labels: tuple[Label, ...] = ()


class RuntimeApp(NamedTuple):
    """An app of a pod. `app` None: the executor takes the image's."""

    name: str
    image: RuntimeImage
    app: App | None = None
    read_only_root_fs: bool = False
    mounts: tuple[Mount, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    def annotation(self, name: str) -> str | None:
        return value_of(self.annotations, name)


class ExposedPort(NamedTuple):
    name: str
    host_port: int
    host_ip: str | None = None
    pod_port: Port | None = None


class PodManifest(NamedTuple):
    ac_version: str
    apps: tuple[RuntimeApp, ...] = ()
    volumes: tuple[Volume, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    ports: tuple[ExposedPort, ...] = ()
    user_annotations: Mapping[str, str] = NO_STRINGS
    user_labels: Mapping[str, str] = NO_STRINGS

    def annotation(self, name: str) -> str | None:
        return value_of(self.annotations, name)

    def app(self, name: str) -> RuntimeApp | None:
        """The entry of that name."""
        for entry in self.apps:
            if entry.name == name:
                return entry
        return None


def parse_pod_manifest(text: str | bytes) -> PodManifest:
    """Raises ManifestError with every problem found."""
    value, problems = load(text, "pod manifest")
    fields = Fields(value, "", problems, _POD)
    if not isinstance(value, dict):
        raise ManifestError("pod manifest", problems)
    version = parse_version(fields)
    fields.string("acKind", required=True, check=lambda kind: kind == KIND, expected=KIND)
    manifest = PodManifest(
        ac_version=version,
        apps=fields.array("apps", _parse_app_entry),
        volumes=fields.array("volumes", parse_volume),
        isolators=fields.array("isolators", parse_pod_isolator),
        annotations=parse_annotations(fields),
        ports=fields.array("ports", _parse_exposed_port),
        user_annotations=fields.string_map("userAnnotations"),
        user_labels=fields.string_map("userLabels"),
    )
    fields.unique("apps", (entry.name for entry in manifest.apps), "app")
    fields.unique("volumes", (volume.name for volume in manifest.volumes), "volume")
    if problems:
        raise ManifestError("pod manifest", problems)
    return manifest


def pod_manifest_json(manifest: PodManifest) -> str:
    """JSON as stage0 writes it: `null` for no volumes, isolators and annotations, `[]` for no apps and ports (contract section 4.2).

    Raises ManifestError for a manifest that would not parse.
    """
    members = {
        "acVersion": manifest.ac_version,
        "acKind": KIND,
        "apps": [_app_entry_json(entry) for entry in manifest.apps],
        "volumes": [_volume_json(volume) for volume in manifest.volumes] or None,
        "isolators": isolators_json(manifest.isolators) or None,
        "annotations": pairs_json(manifest.annotations) or None,
        "ports": [_exposed_port_json(port) for port in manifest.ports],
        "userAnnotations": dict(sorted(manifest.user_annotations.items())),
        "userLabels": dict(sorted(manifest.user_labels.items())),
    }
    text = dump(without_empty(members, kept=("apps", "volumes", "isolators", "annotations", "ports")))
    parse_pod_manifest(text)
    return text


def parse_volume(value: Json, path: str, problems: list[Problem]) -> Volume:
    fields = Fields(value, path, problems, _VOLUME)
    volume = Volume(
        name=fields.string("name", required=True, check=is_ac_name, expected="an AC name"),
        kind=fields.string("kind", required=True, check=lambda kind: kind in ("empty", "host"), expected='"empty" or "host"'),
        source=fields.optional_string("source"),
        read_only=fields.boolean("readOnly"),
        recursive=fields.boolean("recursive"),
        mode=fields.optional_string("mode"),
        uid=fields.integer("uid", low=0, high=LARGEST_ID),
        gid=fields.integer("gid", low=0, high=LARGEST_ID),
    )
    if volume.kind == "empty":
        if volume.source:
            fields.problem("source", "must not be set for an empty volume")
        if volume.mode is not None and not is_mode(volume.mode):
            fields.problem("mode", "must be octal digits up to 07777, such as 0755")
        return volume._replace(
            source=None,
            mode=EMPTY_VOLUME_MODE if volume.mode is None else volume.mode,
            uid=volume.uid or 0,
            gid=volume.gid or 0,
        )
    if volume.kind == "host":
        source = volume.source
        if not source:
            fields.problem("source", "is required for a host volume")
        elif not source.startswith("/") or "\0" in source:
            fields.problem("source", "must be an absolute path")
        for name in ("mode", "uid", "gid"):
            if name in fields.values:
                fields.problem(name, "must not be set for a host volume")
    return volume


def is_mode(text: str) -> bool:
    """Whether these are the octal digits of permissions."""
    digits = text.lstrip("0")
    return text != "" and len(digits) <= 4 and all(digit in "01234567" for digit in digits)


def _parse_app_entry(value: Json, path: str, problems: list[Problem]) -> RuntimeApp:
    fields = Fields(value, path, problems, _APP_ENTRY)
    image = fields.object("image", _parse_image)
    if image is None:
        fields.problem("image", "is required")
    return RuntimeApp(
        name=fields.string("name", required=True, check=is_ac_name, expected="an AC name"),
        image=image or RuntimeImage(id=""),
        app=fields.object("app", parse_app),
        read_only_root_fs=fields.boolean("readOnlyRootFS") or False,
        mounts=fields.array("mounts", _parse_mount),
        annotations=parse_annotations(fields),
    )


def _parse_image(value: Json, path: str, problems: list[Problem]) -> RuntimeImage:
    fields = Fields(value, path, problems, _IMAGE)
    return RuntimeImage(
        name=fields.optional_string("name", check=is_ac_identifier, expected="an AC identifier"),
        id=fields.string("id", required=True, check=is_hash, expected="an image ID (sha512-...)"),
        labels=parse_labels(fields),
    )


def _parse_mount(value: Json, path: str, problems: list[Problem]) -> Mount:
    fields = Fields(value, path, problems, _MOUNT)
    return Mount(
        volume=fields.string("volume", required=True, check=is_ac_name, expected="an AC name"),
        path=fields.string("path", required=True, executed=True),
        app_volume=fields.object("appVolume", parse_volume),
    )


def _parse_exposed_port(value: Json, path: str, problems: list[Problem]) -> ExposedPort:
    fields = Fields(value, path, problems, _EXPOSED_PORT)
    return ExposedPort(
        name=fields.string("name", required=True, check=is_ac_name, expected="an AC name"),
        host_port=fields.integer("hostPort", low=0, high=65535) or 0,
        host_ip=fields.optional_string("hostIP", check=_is_ip, expected="an IP address") or None,
        pod_port=fields.object("podPort", parse_port),
    )


def _is_ip(text: str) -> bool:
    """Imported here: pods with ports are rare, and ipaddress is slow to import."""
    from ipaddress import ip_address

    try:
        ip_address(text or "0.0.0.0")
    except ValueError:
        return False
    return True


def _app_entry_json(entry: RuntimeApp) -> dict[str, Any]:
    image = without_empty({"name": entry.image.name, "id": entry.image.id, "labels": pairs_json(entry.image.labels)})
    return without_empty(
        {
            "name": entry.name,
            "image": image,
            "app": None if entry.app is None else app_json(entry.app),
            "readOnlyRootFS": entry.read_only_root_fs,
            "mounts": [
                without_empty(
                    {
                        "volume": mount.volume,
                        "path": mount.path,
                        "appVolume": None if mount.app_volume is None else _volume_json(mount.app_volume),
                    }
                )
                for mount in entry.mounts
            ],
            "annotations": pairs_json(entry.annotations),
        }
    )


def _volume_json(volume: Volume) -> dict[str, Any]:
    members = {
        "name": volume.name,
        "kind": volume.kind,
        "source": volume.source or None,
        "readOnly": volume.read_only,
        "recursive": volume.recursive,
        "mode": volume.mode,
        "uid": volume.uid,
        "gid": volume.gid,
    }
    return {name: value for name, value in members.items() if value is not None}


def _exposed_port_json(port: ExposedPort) -> dict[str, Any]:
    members = {"name": port.name, "hostPort": port.host_port, "hostIP": port.host_ip}
    members["podPort"] = None if port.pod_port is None else port_json(port.pod_port)
    return {name: value for name, value in members.items() if value is not None}
