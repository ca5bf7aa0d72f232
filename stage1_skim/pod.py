"""The pod as stage1 sees it: parsed once from the pod directory, then only passed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.image import parse_image_manifest
from appc.names import is_ac_name
from appc.pod import parse_pod_manifest
from poddir import annotations as names
from poddir import layout
from stage1_skim.places import PUBLIC_DIRECTORY, RESERVED_NAMES, public_directory, scope_name, service_name, slice_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.app import App
    from appc.image import ImageManifest
    from appc.pod import PodManifest, RuntimeApp


class PodApp(NamedTuple):
    """One app: its entry in the pod manifest, its app section (the entry's, else the image's), its image and where its root is."""

    name: str
    entry: RuntimeApp
    app: App
    image: ImageManifest
    root: str

    def annotation(self, name: str) -> str | None:
        """The entry's annotation, else the image's."""
        value = self.entry.annotation(name)
        return value if value is not None else self.image.annotation(name)


class Pod(NamedTuple):
    """A pod directory that has been read: `directory` is absolute, `name` is "" for a pod that nobody named."""

    uuid: str
    directory: str
    name: str
    manifest: PodManifest
    apps: tuple[PodApp, ...]

    @property
    def scope(self) -> str:
        return scope_name(self.uuid)

    @property
    def slice(self) -> str:
        return slice_name(self.uuid)

    @property
    def public(self) -> str:
        """The directory of the apps' public ways in."""
        return public_directory(self.uuid)

    @property
    def stable(self) -> str:
        """The same by the pod's name, which outlives the pod where it has one (DESIGN section 5)."""
        return os.path.join(PUBLIC_DIRECTORY, self.name) if self.name else self.public

    def service(self, app: str) -> str:
        return service_name(app, self.uuid)


def read_pod(directory: str, uuid: str) -> Pod:
    """Read the pod manifest and every app's image manifest (contract section 1.3). Raises UserError naming the file that does not hold."""
    manifest = parse_pod_manifest(_read(layout.pod_manifest(directory)))
    if not manifest.apps:
        raise UserError("the pod has no apps")
    apps = tuple(_read_app(directory, entry) for entry in manifest.apps)
    return Pod(uuid=uuid, directory=directory, name=_pod_name(apps), manifest=manifest, apps=apps)


def _read_app(directory: str, entry: RuntimeApp) -> PodApp:
    image = parse_image_manifest(_read(layout.app_image_manifest(directory, entry.name)))
    app = entry.app if entry.app is not None else image.app
    if app is None:
        raise UserError(f'app "{entry.name}": neither the pod manifest nor image {image.name} has an app section')
    return PodApp(name=entry.name, entry=entry, app=app, image=image, root=layout.app_rootfs(directory, entry.name))


def _pod_name(apps: tuple[PodApp, ...]) -> str:
    found = sorted(set(_named(apps)))
    if not found:
        return ""
    if len(found) > 1:
        raise UserError(f"the pod's apps name it differently: {', '.join(found)}", hint=f"{names.SKIM_POD_NAME} has one value in a pod")
    if not is_ac_name(found[0]) or found[0] in RESERVED_NAMES:
        hint = f"lower-case letters, digits and dashes; not {', '.join(RESERVED_NAMES)}"
        raise UserError(f"{found[0]!r} cannot be a pod's name", hint=hint)
    return found[0]


def _named(apps: tuple[PodApp, ...]) -> Iterator[str]:
    for app in apps:
        name = app.entry.annotation(names.SKIM_POD_NAME)
        if name:
            yield name


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
