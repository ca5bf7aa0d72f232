"""A recipe's source as one directory to take files from: packages or a tarball unpacked, or a directory as it is."""

from __future__ import annotations

import hashlib
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aci_build.debian import KEYRING, Mirror, Package, Suite, machine_mirror
from appc.errors import UserError
from linux import inside
from linux.process import ProgramError, run

if TYPE_CHECKING:
    from aci_build.options import Options
    from aci_build.progress import Progress
    from aci_build.recipe import Recipe

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into usr/ on every Debian since 12

# `dpkg-deb --extract` would replace those links by directories. If dpkg-deb fails, tar gets no whole archive and fails too.
_UNPACK = """dpkg-deb --fsys-tarfile "$1" | tar --extract --verbose --quoting-style=literal --keep-directory-symlink \\
    --no-same-owner --preserve-permissions --directory "$2\""""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a recipe may take from. `owners` tells the package of a file by its canonical path inside `root`."""

    root: str
    packages: dict[str, Package]
    owners: dict[str, str]
    record: dict[str, object]


def obtain(recipe: Recipe, options: Options, scratch: str, progress: Progress) -> Material:
    """Makes the source ready, below `scratch` where it must be unpacked."""
    if recipe.source.kind == "debian":
        return _from_suite(recipe, options, scratch, progress)
    path = options.source or recipe.source.path
    if path is None:
        raise UserError(
            f"recipe {recipe.file} takes its files from a {recipe.source.kind} that it does not name", hint="name it with --source PATH"
        )
    if recipe.source.kind == "directory":
        if not path.is_dir():
            raise UserError(f"source {path} is not a directory")
        return Material(root=os.fspath(path.resolve()), packages={}, owners={}, record={"kind": "directory"})
    return _from_tarball(path, recipe.source.sha256, scratch, progress)


def _from_suite(recipe: Recipe, options: Options, scratch: str, progress: Progress) -> Material:
    if options.source is not None:
        raise UserError(f"recipe {recipe.file} takes packages, so --source {options.source} has no meaning")
    mirror = Mirror(entries=(f"{options.mirror} {options.suite} main",)) if options.mirror else machine_mirror(options.suite)
    suite = Suite(options.suite, mirror, options.keyring or KEYRING, options.cache, progress)
    with suite.locked():
        suite.update(offline=options.offline)
        packages = suite.closure(*recipe.source.packages_of(options.suite))
        paths = suite.fetch(packages.values(), offline=options.offline)
    progress.step(f"unpacking {len(packages)} packages of {options.suite}")
    root = os.path.join(scratch, "packages")
    _merge_usr(root)
    owners: dict[str, str] = {}
    parents: dict[str, str] = {}
    for name, path in paths.items():
        for line in run(["sh", "-c", _UNPACK, "sh", os.fspath(path), root], capture=True).stdout.splitlines():
            parent, base = posixpath.split(line.removeprefix(".").rstrip("/"))
            if base:
                if parent not in parents:
                    parents[parent] = inside.resolve(root, parent)
                owners[posixpath.join(parents[parent], base)] = name
    return Material(root=root, packages=packages, owners=owners, record={"kind": "debian", "suite": options.suite})


def _merge_usr(root: str) -> None:
    """So that a package that says /lib and one that says /usr/lib meet, as on an installed system."""
    for name in _MERGED:
        os.makedirs(os.path.join(root, "usr", name))
        os.symlink(f"usr/{name}", os.path.join(root, name))


def _from_tarball(path: Path, expected: str | None, scratch: str, progress: Progress) -> Material:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read tarball {path}: {error.strerror}") from None
    if expected is not None and digest != expected:
        raise UserError(f"tarball {path} has sha256 {digest}, the recipe wants {expected}")
    progress.step(f"unpacking {path.name}")
    root = os.path.join(scratch, "tarball")
    os.mkdir(root)
    try:
        run(
            ["tar", "--extract", "--file", os.fspath(path.resolve()), "--directory", root, "--no-same-owner", "--preserve-permissions"],
            capture=True,
        )
    except ProgramError as error:
        raise UserError(f"cannot unpack tarball {path}: {error.message}") from None
    return Material(root=root, packages={}, owners={}, record={"kind": "tarball", "tarball": {"name": path.name, "sha256": digest}})
