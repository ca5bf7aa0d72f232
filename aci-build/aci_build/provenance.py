"""The record of what went into an image: /usr/share/skim/sources.json in the image itself."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aci_build.libraries import Closure
    from aci_build.recipe import Recipe
    from aci_build.source import Material

SOURCES_PATH = "/usr/share/skim/sources.json"


def sources_text(recipe: Recipe, material: Material, version: str, packages: list[str], closure: Closure) -> str:
    """The record as JSON: the recipe, the source, each package that a file came from with its .deb's sha256, the libraries as they were.

    Nothing of the machine that built it goes in, so that the same input gives the same record.
    """
    record: dict[str, object] = {
        "image": recipe.name,
        "version": version,
        "recipe": {"name": recipe.file.name, "sha256": hashlib.sha256(recipe.file.read_bytes()).hexdigest()},
        "source": material.record,
        "packages": [_package(material, name) for name in packages],
    }
    if closure.libraries:
        record["libraries"] = {
            "digest": closure.digest,
            "files": [
                {"name": library.name, "sha256": library.sha256}
                | ({"package": owner} if (owner := material.owners.get(library.origin)) else {})
                for library in closure.libraries.values()
            ],
        }
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _package(material: Material, name: str) -> dict[str, str]:
    package = material.packages[name]
    return {"package": package.name, "version": package.version, "architecture": package.architecture, "sha256": package.sha256}
