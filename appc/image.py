"""Image manifests (specification: aci.md, "Image Manifest Schema")."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.app import (
    Annotation,
    App,
    Label,
    app_json,
    pairs_json,
    parse_annotations,
    parse_app,
    parse_labels,
    value_of,
    without_empty,
)
from appc.document import Fields, dump, keyed, load
from appc.errors import ManifestError
from appc.image_id import is_hash
from appc.names import is_ac_identifier, normal_version

if TYPE_CHECKING:
    from appc.document import Json
    from appc.errors import Problem

KIND = "ImageManifest"
_IMAGE = keyed(("acKind", "acVersion", "name", "labels", "app", "annotations", "dependencies", "pathWhitelist"))
_DEPENDENCY = keyed(("imageName", "imageID", "labels", "size"))


class Dependency(NamedTuple):
    """An image below this one. `size` in bytes, 0 for not said."""

    image_name: str
    image_id: str | None = None
    labels: tuple[Label, ...] = ()
    size: int = 0


class ImageManifest(NamedTuple):
    ac_version: str
    name: str
    labels: tuple[Label, ...] = ()
    app: App | None = None
    annotations: tuple[Annotation, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    path_whitelist: tuple[str, ...] = ()

    def label(self, name: str) -> str | None:
        return value_of(self.labels, name)

    def annotation(self, name: str) -> str | None:
        return value_of(self.annotations, name)


def parse_image_manifest(text: str | bytes) -> ImageManifest:
    """Raises ManifestError with every problem found."""
    value, problems = load(text, "image manifest")
    fields = Fields(value, "", problems, _IMAGE)
    if not isinstance(value, dict):
        raise ManifestError("image manifest", problems)
    fields.string("acKind", required=True, check=lambda kind: kind == KIND, expected=KIND)
    manifest = ImageManifest(
        ac_version=parse_version(fields),
        name=fields.string("name", required=True, check=is_ac_identifier, expected="an AC identifier"),
        labels=parse_labels(fields),
        app=fields.object("app", parse_app),
        annotations=parse_annotations(fields),
        dependencies=fields.array("dependencies", _parse_dependency),
        path_whitelist=fields.strings("pathWhitelist"),
    )
    if problems:
        raise ManifestError("image manifest", problems)
    return manifest


def image_manifest_json(manifest: ImageManifest) -> str:
    """The canonical JSON, as rkt's store keeps it. Raises ManifestError for a manifest that would not parse."""
    text = dump(
        without_empty(
            {
                "acKind": KIND,
                "acVersion": manifest.ac_version,
                "name": manifest.name,
                "labels": pairs_json(manifest.labels),
                "app": None if manifest.app is None else app_json(manifest.app),
                "annotations": pairs_json(manifest.annotations),
                "dependencies": [
                    without_empty(
                        {
                            "imageName": dependency.image_name,
                            "imageID": dependency.image_id,
                            "labels": pairs_json(dependency.labels),
                            "size": dependency.size or None,
                        }
                    )
                    for dependency in manifest.dependencies
                ],
                "pathWhitelist": list(manifest.path_whitelist),
            }
        )
    )
    parse_image_manifest(text)
    return text


def parse_version(fields: Fields) -> str:
    """The acVersion of either kind of manifest, as Go writes it: a semantic version that is not zero."""
    version = fields.string(
        "acVersion", required=True, check=lambda text: normal_version(text) is not None, expected="a version such as 0.8.11"
    )
    return normal_version(version) or version


def _parse_dependency(value: Json, path: str, problems: list[Problem]) -> Dependency:
    fields = Fields(value, path, problems, _DEPENDENCY)
    return Dependency(
        image_name=fields.string("imageName", required=True, check=is_ac_identifier, expected="an AC identifier"),
        image_id=fields.optional_string("imageID", check=is_hash, expected="an image ID (sha512-...)"),
        labels=parse_labels(fields),
        size=fields.integer("size", low=0) or 0,
    )
