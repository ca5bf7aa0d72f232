"""Puts the root file system of an image together: chosen files at their paths, links made relative, licences, nothing that leaves it."""

from __future__ import annotations

import glob
import os
import posixpath
import shutil
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aci_build import inroot
from appc.errors import UserError
from linux import inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aci_build.progress import Progress
    from aci_build.recipe import Recipe
    from aci_build.source import Material


class Assembly:
    """A root file system in the making. `origins` maps each file of it that came from the source to its canonical path there."""

    def __init__(self, material: Material, rootfs: str) -> None:
        self.material = material
        self.rootfs = rootfs
        self.origins: dict[str, str] = {}
        os.mkdir(rootfs)
        os.chmod(rootfs, 0o755)

    def add_chosen(self, recipe: Recipe, progress: Progress) -> None:
        """All that the recipe names. Raises UserError for what the source does not have."""
        for subtree in recipe.subtrees:
            if not os.path.isdir(inroot.outer(self.material.root, inside.resolve(self.material.root, subtree.origin))):
                raise UserError(f"the source has no directory {subtree.origin}, which recipe {recipe.file} asks for")
            self._place(subtree.origin, subtree.path)
        for program in recipe.programs:
            origin = inroot.find_file(self.material.root, program.origin)
            if origin is not None:
                self._copy_file(origin, program.path)
            elif not program.optional:
                raise UserError(
                    f"program {program.origin}, which recipe {recipe.file} asks for, is not in the source",
                    hint=self._elsewhere(program.origin),
                )
            else:
                progress.detail(f"{program.origin} is not in the source; it is optional")
        for pattern in recipe.patterns:
            matches = self._matches(pattern.pattern)
            if not matches and not pattern.optional:
                raise UserError(f"nothing in the source matches {pattern.pattern}, which recipe {recipe.file} asks for")
            for match in matches:
                self._place(match, match)
        for text in recipe.texts:
            self.write(text.path, text.text, text.mode)
        for link in recipe.links:
            self._make_parents(link.path)
            self._symlink(link.path, inroot.relative_target(link.path, link.target))
        for directory in recipe.directories:
            self.make_directory(directory.path)
            os.chmod(inroot.outer(self.rootfs, directory.path), directory.mode)

    def add_licences(self, paths: list[str]) -> list[str]:
        """The copyright file of each package that owns one of `paths` (canonical, in the source); returns those packages, sorted."""
        packages = sorted({self.material.owners[path] for path in paths if path in self.material.owners})
        for package in packages:
            licence = f"/usr/share/doc/{package}/copyright"
            origin = inroot.find_file(self.material.root, licence)
            if origin is None:
                raise UserError(f"package {package} has no licence at {licence}; its files cannot be passed on without")
            if licence not in self.origins:
                self._copy_file(origin, licence)
        return packages

    def make_directory(self, path: str) -> None:
        """With all above it, 0755 whatever the umask is."""
        self._make_parents(f"{path}/.")

    def write(self, path: str, text: str, mode: int) -> None:
        self._make_parents(path)
        target = inroot.outer(self.rootfs, path)
        with _once(path), open(target, "x", encoding="utf-8") as file:
            file.write(text)
        os.chmod(target, mode)

    def check_links(self) -> None:
        """Every link must lead to something in the image. Raises UserError naming the one that does not."""
        for directory, subdirectories, files in os.walk(self.rootfs):
            for name in sorted([*subdirectories, *files]):
                outside = os.path.join(directory, name)
                if not os.path.islink(outside):
                    continue
                path = "/" + os.path.relpath(outside, self.rootfs)
                target = os.readlink(outside)
                if not _stays_inside(path, target):
                    raise UserError(f"the link {path} leads out of the image, to {target}")
                if not os.path.lexists(inroot.outer(self.rootfs, inside.resolve(self.rootfs, path))):
                    raise UserError(
                        f"the link {path} leads to {target}, which is not in the image", hint="keep the target too, or leave out the link"
                    )

    def settle_times(self, limit: int | None) -> int:
        """Makes the times a function of the input: nothing is later than `limit`, or else the newest file taken, in seconds since 1970.

        Directories, links and what was generated get that very time, since their own says only when they were built. Returns it.
        """
        newest = max((int(os.lstat(inroot.outer(self.rootfs, path)).st_mtime) for path in self.origins), default=0)
        ceiling = newest if limit is None else limit
        for directory, subdirectories, files in os.walk(self.rootfs):
            for path in [directory, *(os.path.join(directory, name) for name in (*subdirectories, *files))]:
                status = os.lstat(path)
                from_source = stat.S_ISREG(status.st_mode) and "/" + os.path.relpath(path, self.rootfs) in self.origins
                time = min(int(status.st_mtime), ceiling) if from_source else ceiling
                os.utime(path, (time, time), follow_symlinks=False)
        return ceiling

    def _matches(self, pattern: str) -> list[str]:
        """Paths in the source. Glob follows a link to the host's files; what it finds there does not exist in the source."""
        found = ("/" + match for match in glob.glob(pattern.lstrip("/"), root_dir=self.material.root, include_hidden=True))
        return sorted(match for match in found if os.path.lexists(inroot.outer(self.material.root, self._canonical(match))))

    def _canonical(self, path: str) -> str:
        """Links on the way followed inside the source only; what `path` itself names may be a link."""
        parent, base = posixpath.split(path)
        return posixpath.join(inside.resolve(self.material.root, parent), base)

    def _place(self, origin: str, path: str) -> None:
        """A file, link or whole directory of the source, at `path`."""
        origin = self._canonical(origin)
        outside = inroot.outer(self.material.root, origin)
        try:
            mode = os.lstat(outside).st_mode
        except OSError as error:
            raise UserError(f"cannot read {origin} in the source: {error.strerror}") from None
        if stat.S_ISLNK(mode):
            self._place_link(origin, path)
        elif stat.S_ISREG(mode):
            self._copy_file(origin, path)
        elif stat.S_ISDIR(mode):
            self.make_directory(path)
            os.chmod(inroot.outer(self.rootfs, path), stat.S_IMODE(mode))
            for name in sorted(os.listdir(outside)):
                self._place(f"{origin}/{name}", f"{path}/{name}")
        else:
            raise UserError(f"{origin} in the source is no file, link or directory; no image can hold it")

    def _place_link(self, origin: str, path: str) -> None:
        target = os.readlink(inroot.outer(self.material.root, origin))
        if not _stays_inside(path, target):
            raise UserError(f"the link {path} leads out of the image, to {target}")
        self._make_parents(path)
        self._symlink(path, inroot.relative_target(path, target) if target.startswith("/") else target)

    def _copy_file(self, origin: str, path: str) -> None:
        self._make_parents(path)
        target = inroot.outer(self.rootfs, path)
        if self.origins.get(path) == origin:
            return
        with _once(path):
            if os.path.lexists(target):
                raise FileExistsError
            shutil.copy2(inroot.outer(self.material.root, origin), target, follow_symlinks=False)
        self.origins[path] = origin

    def _symlink(self, path: str, target: str) -> None:
        outside = inroot.outer(self.rootfs, path)
        if os.path.islink(outside) and os.readlink(outside) == target:
            return
        with _once(path):
            os.symlink(target, outside)

    def _make_parents(self, path: str) -> None:
        """Directories above `path`. A link or file in their way would carry them elsewhere and is refused."""
        outside = self.rootfs
        for part in posixpath.dirname(path).strip("/").split("/"):
            outside = os.path.join(outside, part)
            if os.path.islink(outside) or (os.path.lexists(outside) and not os.path.isdir(outside)):
                raise UserError(
                    f"{path} cannot be put into the image: /{os.path.relpath(outside, self.rootfs)} is already there and no directory"
                )
            if not os.path.isdir(outside):
                os.mkdir(outside)
                os.chmod(outside, 0o755)

    def _elsewhere(self, program: str) -> str | None:
        """Where the source has programs of that name: packages move them between releases."""
        name = posixpath.basename(program)
        root = self.material.root
        found = [os.path.join(directory, name) for directory, _, files in os.walk(root) if name in files]
        return "the source has " + ", ".join(sorted("/" + os.path.relpath(path, root) for path in found)) if found else None


@contextmanager
def _once(path: str) -> Iterator[None]:
    """Turns "exists already" into an error that names the path in the image."""
    try:
        yield
    except FileExistsError:
        raise UserError(f"the recipe puts two different files at {path}") from None


def _stays_inside(link: str, target: str) -> bool:
    """Whether a relative target never climbs above the image's root on its way; an absolute one means the image's root."""
    depth = 0 if target.startswith("/") else len([part for part in posixpath.dirname(link).split("/") if part])
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True
