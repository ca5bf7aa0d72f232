"""Builds one image: reads as the list of steps."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aci_build import relocation
from aci_build.assembly import Assembly
from aci_build.libraries import Closure, find_closure
from aci_build.provenance import SOURCES_PATH, sources_text
from aci_build.recipe import load_recipe, manifest_text
from aci_build.source import obtain
from appc.archive import write_archive
from appc.errors import UserError
from appc.image import parse_image_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aci_build.options import Options
    from aci_build.progress import Progress
    from aci_build.recipe import Recipe
    from aci_build.source import Material

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64"}

_REMOVAL = 10.0  # seconds


class Built(NamedTuple):
    """What a build made: the image's ID (rkt's key), its name and version, its size in bytes."""

    image_id: str
    name: str
    version: str
    size: int


def build_image(options: Options, progress: Progress) -> Built:
    """Builds the image that `options` asks for. Raises UserError; the output is then as it was before."""
    recipe = load_recipe(options.recipe)
    limit = _source_date_epoch()
    with _replacing(options.output) as partial, _scratch() as scratch:
        material = obtain(recipe, options, scratch, progress)
        version = _version(recipe, options, material)
        assembly = Assembly(material, os.path.join(scratch, "rootfs"))
        assembly.add_chosen(recipe, progress)
        closure = _relocated(recipe, assembly, progress)
        packages = assembly.add_licences([*assembly.origins.values(), *(library.origin for library in closure.libraries.values())])
        assembly.write(SOURCES_PATH, sources_text(recipe, material, version, packages, closure), 0o644)
        assembly.check_links()
        latest = assembly.settle_times(limit)
        progress.step("writing the archive")
        annotations = (
            recipe.annotations | {"skim/sources": SOURCES_PATH} | ({"skim/libraries": closure.digest} if closure.libraries else {})
        )
        manifest = parse_image_manifest(manifest_text(recipe, version=version, architecture=_architecture(), annotations=annotations))
        written = write_archive(assembly.rootfs, manifest, partial, latest_mtime=latest, owner=(0, 0))
        size = os.path.getsize(partial)
    progress.step(f"{options.output}: {recipe.name} {version}, {size / 1e6:.1f} MB")
    return Built(image_id=written.image_id, name=recipe.name, version=version, size=size)


def _relocated(recipe: Recipe, assembly: Assembly, progress: Progress) -> Closure:
    """Gives the image its library directory and checks that its programs use no other. An empty closure where there is nothing to do."""
    if not recipe.relocate:
        return Closure(libraries={}, loader=None, suggested={})
    root = assembly.material.root
    closure = find_closure(root, assembly.origins, recipe.extra_libraries)
    for library, user in closure.suggested.items():
        progress.detail(f"{user} may open {library}, which the image does not have; libraries.extra would add it")
    if closure.libraries:
        progress.step(f"relocating to {len(closure.libraries)} libraries of the image's own, {closure.digest}")
        directory = relocation.image_directory(closure)
        assembly.make_directory(directory)
        relocation.install_libraries(root, assembly.rootfs, closure)
        relocation.relocate(assembly.rootfs, closure)
        relocation.check_relocated(assembly.rootfs, closure)
        assembly.origins.update({f"{directory}/{library.name}": library.origin for library in closure.libraries.values()})
    return closure


def _version(recipe: Recipe, options: Options, material: Material) -> str:
    """The version label: from the command line, from the recipe, or of the package that the recipe names, without its epoch."""
    if options.image_version or recipe.version:
        return options.image_version or recipe.version or ""
    if recipe.version_package is None:
        raise UserError(f"recipe {recipe.file} does not say which version the image has", hint="say it with --image-version V")
    package = material.packages.get(recipe.version_package)
    if package is None:
        raise UserError(
            f"image.version.package of recipe {recipe.file} is {recipe.version_package}, which is not among the packages that were fetched"
        )
    return package.version.partition(":")[2] or package.version


def _architecture() -> str:
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise UserError(f"images for {machine} are not supported")
    return _ARCHITECTURES[machine]


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdecimal():
        raise UserError(f'SOURCE_DATE_EPOCH is "{text}", and must be a number of seconds')
    return int(text) if text else None


@contextmanager
def _scratch() -> Iterator[str]:
    """A directory for the time of the build. Not in /tmp, which is memory on many machines: sources are some hundred megabytes unpacked."""
    try:
        path = tempfile.mkdtemp(dir=os.environ.get("TMPDIR", "/var/tmp"), prefix="aci-build-")
    except OSError as error:
        raise UserError(f"cannot make a temporary directory: {error.strerror}: {error.filename}", hint="TMPDIR says where") from None
    try:
        yield path
    finally:
        # What a killed program has started may go on writing for a moment.
        deadline = time.monotonic() + _REMOVAL
        while os.path.exists(path) and time.monotonic() < deadline:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _replacing(output: Path) -> Iterator[str]:
    """A file beside `output` that takes its place when all went well, and goes when it did not.

    Fails at once where nothing can be written.
    """
    if output.is_dir():
        raise UserError(f"output {output} is a directory")
    try:
        descriptor, partial = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name}.")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from None
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(descriptor, 0o666 & ~umask)
        os.fsync(descriptor)
        os.replace(partial, output)
    except BaseException:
        os.unlink(partial)
        raise
    finally:
        os.close(descriptor)
