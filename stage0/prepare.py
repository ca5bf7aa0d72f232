"""The preparation of a pod: what goes into its directory before it can run (contract sections 2.1 and 2.3)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.pod import parse_pod_manifest, pod_manifest_json
from poddir import layout, locks, pods

from .manifest import Caller, Image, check_platform, check_ports, generate, inheritable
from .output import Failure, quote
from .overlay import unsupported_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poddir.pods import Pod

    from .context import Context
    from .images import Images
    from .request import PodRequest

_PREPARE_LOCK = "prepareLock"


class PreparedApp(NamedTuple):
    """An app of the pod and its image's key."""

    name: str
    image: str


class Plan(NamedTuple):
    """Everything that preparing needs: the pod manifest's text, the apps, the stage1 image, overlay or copies."""

    manifest: str
    apps: tuple[PreparedApp, ...]
    stage1: str
    overlay: bool


def make_plan(context: Context, images: Images, request: PodRequest, keys: Sequence[str], stage1: str) -> Plan:
    """Decide everything; nothing is written. Raises Failure."""
    try:
        manifest, apps = (
            _given_manifest(images, request.pod_manifest) if request.pod_manifest else _generated(context, images, request, keys)
        )
    except UserError as error:
        raise Failure("error setting up stage0") from error
    return Plan(manifest=manifest, apps=apps, stage1=stage1, overlay=not request.no_overlay and overlay_works(context))


def overlay_works(context: Context) -> bool:
    """Whether pods can use overlay; if not, a line says why. Raises Failure."""
    try:
        reason = unsupported_reason(context.data_directory)
    except OSError as error:
        raise Failure("error determining overlay support") from error
    if reason is not None:
        context.log.say(f"disabling overlay support: {quote(reason)}")
    return reason is None


def create_pod(context: Context) -> Pod:
    """A new pod, locked by us, in the state `preparing`. Raises Failure."""
    try:
        return pods.create(context.data_directory)
    except OSError as error:
        raise Failure("error creating new pod") from error


def prepare(context: Context, images: Images, pod: Pod, plan: Plan) -> None:
    """Fill the pod directory. Raises Failure; what was written stays for gc to collect, as an aborted prepare."""
    try:
        lock = locks.KeyLock(layout.locks_directory(context.data_directory), _PREPARE_LOCK, shared=True)
    except OSError as error:
        raise Failure("cannot get shared prepare lock") from error
    with lock:
        try:
            _fill(context, images, pod.path, plan)
        except (UserError, OSError) as error:
            raise Failure("error setting up stage0") from error


def _generated(context: Context, images: Images, request: PodRequest, keys: Sequence[str]) -> tuple[str, tuple[PreparedApp, ...]]:
    environment: dict[str, str] = {}
    if request.inherit_environment:
        environment, refused = inheritable(os.environ)
        for name in refused:
            context.log.say(f"warning: the variable {quote(name)} is not inherited: a manifest cannot hold it")
    caller = Caller(uid=os.getuid(), gid=os.getgid(), environment=environment)
    manifest = generate(request, [Image(key=key, manifest=images.manifest(key)) for key in keys], caller)
    return pod_manifest_json(manifest), tuple(PreparedApp(name=app.name, image=app.image.id) for app in manifest.apps)


def _given_manifest(images: Images, path: str) -> tuple[str, tuple[PreparedApp, ...]]:
    """A manifest that the user wrote, taken byte for byte. Raises UserError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise Failure("error reading pod manifest") from error
    try:
        manifest = parse_pod_manifest(text)
    except UserError as error:
        raise Failure("error unmarshaling pod manifest") from error
    apps = []
    for app in manifest.apps:
        key = images.stored(app.image.id)
        if key is None:
            raise Failure("error getting the image manifest from store") from UserError(f"could not find image {quote(app.image.id)}")
        image = images.manifest(key)
        check_platform(image)
        if app.app is None and image.app is None:
            raise UserError("no app section in the pod manifest or the image manifest")
        apps.append(PreparedApp(name=app.name, image=key))
    check_ports(manifest.ports, manifest.apps)
    return text, tuple(apps)


def _fill(context: Context, images: Images, pod: str, plan: Plan) -> None:
    os.mkdir(os.path.join(pod, layout.APPS_INFO), layout.DIRECTORY_MODE)
    context.log.diagnostic("Preparing stage1")
    _prepare_stage1(context, images, pod, plan)
    for app in plan.apps:
        context.log.diagnostic(f"Loading image {app.image}")
        _prepare_app(context, images, pod, app, overlay=plan.overlay)
    _write(os.path.join(pod, layout.POD_LOCK), "", 0o600)
    context.log.diagnostic("Writing pod manifest")
    _write(layout.pod_manifest(pod), plan.manifest)
    _write(os.path.join(pod, layout.POD_CREATED), "")
    if plan.overlay:
        _write(os.path.join(pod, layout.OVERLAY_PREPARED), "", 0o666)


def _prepare_stage1(context: Context, images: Images, pod: str, plan: Plan) -> None:
    try:
        os.mkdir(os.path.join(pod, layout.STAGE1), layout.DIRECTORY_MODE)
        tree_id = images.render(plan.stage1)
        context.log.diagnostic("Writing image manifest")
        _write(layout.stage1_manifest(pod), images.manifest_text(plan.stage1))
        if not plan.overlay:
            from .tree_copy import copy_tree

            copy_tree(images.tree_rootfs(tree_id), layout.stage1_rootfs(pod))
        _write(os.path.join(pod, layout.STAGE1_TREE_STORE_ID), tree_id)
    except (UserError, OSError) as error:
        raise Failure("error preparing stage1") from error


def _prepare_app(context: Context, images: Images, pod: str, app: PreparedApp, *, overlay: bool) -> None:
    try:
        os.mkdir(layout.app_info(pod, app.name), layout.DIRECTORY_MODE)
        if overlay:
            _write(layout.app_tree_store_id(pod, app.name), images.render(app.image))
        else:
            directory = layout.app_directory(pod, app.name)
            pods.make_directories(directory)
            images.extract(app.image, directory)
        context.log.diagnostic("Writing image manifest")
        _write(layout.app_info_manifest(pod, app.name), images.manifest_text(app.image))
    except (UserError, OSError) as error:
        raise Failure(f"error preparing image {app.image}") from error


def _write(path: str, text: str, mode: int = layout.FILE_MODE) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
