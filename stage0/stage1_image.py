"""Which image is the stage1 (contract section 2.2)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError

from .output import Failure

if TYPE_CHECKING:
    from .context import Context
    from .images import Images

DEFAULT_NAME = "skim/stage1-skim"
DEFAULT_FILE = "stage1-skim.aci"
DEFAULT_IMAGES_DIRECTORY = "/opt/skim/images"


class Stage1Choice(NamedTuple):
    """The --stage1-* flag that was given: `kind` is its name, "" for none."""

    kind: str = ""
    location: str = ""


def choose_stage1(context: Context, images: Images, choice: Stage1Choice) -> str:
    """The key of the stage1 image, fetched into the store if need be. Raises UserError."""
    if choice.kind:
        return _chosen(context, images, choice)
    configuration = context.configuration()
    if configuration.stage1_name:
        reference = f"{configuration.stage1_name}:{configuration.stage1_version}"
        key = None if reference.endswith("-dirty") else images.stored(reference)
        if key is not None:
            return key
    if configuration.stage1_location:
        return _from_configured_location(context, images, configuration.stage1_location)
    return _default(images)


def program_directories() -> list[str]:
    """Where this program is: the directory that it was called from, and the one it really is in."""
    program = sys.executable if getattr(sys, "frozen", False) else os.path.abspath(sys.argv[0])
    called = os.path.abspath(sys.argv[0]) if os.sep in sys.argv[0] else program
    return list(dict.fromkeys(os.path.dirname(path) for path in (called, os.path.realpath(program))))


def default_locations() -> list[str]:
    """Where the stage1 image of an installed skim may be, best first."""
    directories = program_directories()
    beside = [os.path.join(directory, DEFAULT_FILE) for directory in directories]
    near = [os.path.normpath(os.path.join(directory, up, "images", DEFAULT_FILE)) for up in ("..", "../..") for directory in directories]
    return [*beside, *near, os.path.join(DEFAULT_IMAGES_DIRECTORY, DEFAULT_FILE)]


def _chosen(context: Context, images: Images, choice: Stage1Choice) -> str:
    location = choice.location
    if choice.kind == "stage1-from-dir":
        location = os.path.join(context.configuration().stage1_images_directory or DEFAULT_IMAGES_DIRECTORY, location)
    if choice.kind in ("stage1-path", "stage1-from-dir"):
        # A bare name is a file here, whatever it looks like to the rules for images.
        location = os.path.abspath(location)
    trusted = choice.kind in ("stage1-url", "stage1-path", "stage1-from-dir") and _is_trusted(location)
    return images.find(location, trusted=trusted)


def _from_configured_location(context: Context, images: Images, location: str) -> str:
    try:
        return images.find(location, trusted=_is_trusted(location))
    except UserError as error:
        if not os.path.isabs(location):
            raise
        failure = error
    for directory in program_directories():
        path = os.path.join(directory, os.path.basename(location))
        if os.path.exists(path):
            return images.find(path, trusted=True)
    raise Failure("failed to fetch stage1 image") from failure


def _default(images: Images) -> str:
    for path in default_locations():
        if os.path.exists(path):
            return images.find(path, trusted=True)
    key = images.stored(DEFAULT_NAME)
    if key is None:
        hint = f"expected it at {default_locations()[-1]}"
        raise UserError("there is no stage1 image, use --stage1-{path,url,name,hash,from-dir} flag", hint=hint)
    return key


def _is_trusted(location: str) -> bool:
    """Files of the installation need no signature."""
    path = os.path.abspath(location)
    return path.startswith(DEFAULT_IMAGES_DIRECTORY + os.sep) or path in default_locations()
