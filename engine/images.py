"""Image files into the store, and what the store knows of them. All through the program `rkt`: whose it is does not matter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from appc.image import parse_image_manifest
from engine import host
from engine.record import Image

if TYPE_CHECKING:
    from engine.layout import Layout

LIBRARIES_ANNOTATION = "skim/libraries"
_DIGEST_LENGTH = 32


def fetch(layout: Layout, path: str) -> Image:
    """Store and render the image file `path`. Raises UserError."""
    words = host.rkt(layout, "fetch", "--insecure-options=image", "--full", path).split()
    if not words:
        raise UserError(f"rkt fetch {path} printed no image ID")
    return describe(layout, words[-1])


def describe(layout: Layout, key: str) -> Image:
    """What a stored image is. Raises UserError if it is not rendered, ManifestError if its manifest does not hold."""
    manifest = parse_image_manifest(host.rkt(layout, "image", "cat-manifest", "--pretty-print=false", key))
    libraries = manifest.annotation(LIBRARIES_ANNOTATION) or ""
    if libraries and (len(libraries) != _DIGEST_LENGTH or not set(libraries) <= set("0123456789abcdef")):
        raise UserError(f"{manifest.name}: annotation {LIBRARIES_ANNOTATION} is not {_DIGEST_LENGTH} hexadecimal digits: {libraries!r}")
    return Image(id=key, name=manifest.name, version=manifest.label("version") or "", tree=find_tree(layout, key), libraries=libraries)


def find_tree(layout: Layout, key: str) -> str:
    """The tree store's id of the rendered image `key` (contract section 2.8). Raises UserError if there is none.

    Found by the `image` file of each tree: its id could be computed for an image without dependencies only.
    """
    trees = os.path.join(layout.data, "cas", "tree")
    for name in sorted(os.listdir(trees)) if os.path.isdir(trees) else []:
        try:
            with open(os.path.join(trees, name, "image"), encoding="ascii") as file:
                image = file.read().strip()
        except FileNotFoundError:
            continue
        if image == key and os.path.exists(os.path.join(trees, name, "rendered")):
            return name
    raise UserError(f"{key} is not rendered in {trees}", hint="the engine needs the overlay file system: `modprobe overlay`")
