"""A pod as `list` and `status` show it: its manifest, its image names, its JSON form (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appc.errors import UserError
from poddir import layout, pods, status

from .output import Failure

if TYPE_CHECKING:
    from appc.pod import PodManifest, RuntimeApp
    from poddir.pods import Pod

_APP_STATES = {
    pods.EMBRYO: "unknown",
    pods.PREPARING: "unknown",
    pods.ABORTED_PREPARE: "unknown",
    pods.PREPARED: "created",
    pods.RUNNING: "running",
}
_WITH_NETWORKS = frozenset({pods.RUNNING, pods.EXITED, pods.EXITED_GARBAGE, pods.EXITED_DELETING})


def read_manifest(pod: Pod) -> PodManifest:
    """Raises UserError."""
    from appc.pod import parse_pod_manifest

    text = _manifest_text(pod)
    try:
        return parse_pod_manifest(text)
    except UserError as error:
        raise Failure("invalid pod manifest") from error


def app_names(pod: Pod) -> list[tuple[str, str]]:
    """Name and image key of each app. Raises UserError.

    `list` needs no more of a manifest, and the whole of appc takes longer to import than the rest of `list`: so only a manifest that has
    not even these is given to the parser, which knows what is wrong with it.
    """
    import json

    try:
        document = json.loads(_manifest_text(pod))
        names = [(entry["name"], entry["image"]["id"]) for entry in document["apps"]]
        if document["acKind"] == "PodManifest" and all(isinstance(part, str) for pair in names for part in pair):
            return names
    except (ValueError, KeyError, TypeError):
        pass
    return [(app.name, app.image.id) for app in read_manifest(pod).apps]


def image_name(pod: Pod, app: str) -> str:
    """`name:version` of an app's image, without the colon where it has no version. Raises UserError."""
    import json

    try:
        with open(layout.app_info_manifest(pod.path, app), "rb") as file:
            text = file.read()
        try:
            document = json.loads(text)
            labels = {label["name"]: label["value"] for label in document.get("labels") or ()}
            name, version = document["name"], labels.get("version")
        except (ValueError, KeyError, TypeError, AttributeError):
            from appc.image import parse_image_manifest

            manifest = parse_image_manifest(text)
            name, version = manifest.name, manifest.label("version")
    except (UserError, OSError) as error:
        raise Failure("problem retrieving ImageManifests from pod") from error
    return name if version is None else f"{name}:{version}"


def _manifest_text(pod: Pod) -> bytes:
    try:
        with open(layout.pod_manifest(pod.path), "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure("error reading pod manifest") from error


def networks(pod: Pod) -> list[dict[str, Any]]:
    """The networks of a pod that runs or ran."""
    return status.networks(pod.path) if pod.state in _WITH_NETWORKS else []


def network_text(pod: Pod) -> str:
    """`default:ip4=172.16.28.2, …`."""
    return ", ".join(f"{network.get('netName', '')}:ip4={network.get('ip', '<nil>')}" for network in networks(pod))


def describe_pod(pod: Pod) -> dict[str, Any]:
    """The JSON form. `name` is the UUID; a pod's times are in seconds, an app's in ns. Raises UserError, OSError."""
    started, created = status.start_time(pod), status.creation_time(pod)
    if created is None:
        raise UserError("invalid creation time")
    found: dict[str, Any] = {"name": pod.uuid, "state": pod.state, "networks": networks(pod)}
    times = {"created_at": created // 10**9, "started_at": None if started is None else started // 10**9}
    if not pod.manifest_expected:
        return _without_empty({**found, **times})
    manifest = read_manifest(pod)
    found["app_names"] = [app.name for app in manifest.apps]
    found["apps"] = [_describe_app(pod, manifest, app, created, started) for app in manifest.apps]
    annotations, labels = (dict(sorted(pairs.items())) for pairs in (manifest.user_annotations, manifest.user_labels))
    return _without_empty({**found, **times, "user_annotations": annotations, "user_labels": labels})


def to_json(value: object, *, pretty: bool) -> str:
    """JSON as Go writes it, on one line or indented with tabs."""
    import json

    escapes = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
    indent, separators = ("\t", (",", ": ")) if pretty else (None, (",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators).translate(escapes)


def _describe_app(pod: Pod, manifest: PodManifest, app: RuntimeApp, created: int, started: int | None) -> dict[str, Any]:
    exit_code = status.exit_status(pod.path, app.name)
    return _without_empty(
        {
            "name": app.name,
            "state": _APP_STATES.get(pod.state, "exited") if exit_code is None else "exited",
            "created_at": created,
            "started_at": started,
            "finished_at": status.marked_time(pod),
            "exit_code": exit_code,
            "image_id": app.image.id,
            "mounts": _describe_mounts(manifest, app),
            "user_annotations": dict(sorted(app.app.user_annotations.items())) if app.app else {},
            "user_labels": dict(sorted(app.app.user_labels.items())) if app.app else {},
        }
    )


def _describe_mounts(manifest: PodManifest, app: RuntimeApp) -> list[dict[str, Any]]:
    volumes = {volume.name: volume for volume in manifest.volumes}
    found = []
    for mount in app.mounts:
        volume = mount.app_volume or volumes.get(mount.volume)
        found.append(
            {
                "name": mount.volume,
                "container_path": mount.path,
                "host_path": (volume.source or "") if volume else "",
                "read_only": bool(volume and volume.read_only),
            }
        )
    return found


def _without_empty(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and value != [] and value != {}}
