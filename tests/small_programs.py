"""Small ELF programs and libraries, compiled while a test runs, in a directory laid out like a distribution's root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"

needs_actool = pytest.mark.skipif(shutil.which("actool") is None, reason="no actool on this machine (Debian package appc-spec)")
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine (Debian packages gcc, libc6-dev)")


def make_root(root: Path) -> Path:
    """A root with this machine's C library and loader, where Debian has them."""
    libraries = root / LIBRARIES
    libraries.mkdir(parents=True)
    (root / "usr/lib64").mkdir()
    (root / "lib64").symlink_to("usr/lib64")
    (root / "lib").symlink_to("usr/lib")
    for name in ("libc.so.6", LOADER):
        shutil.copy2(Path("/lib/x86_64-linux-gnu", name).resolve(), libraries / name)
    (root / "lib64" / LOADER).symlink_to(f"/{LIBRARIES}/{LOADER}")
    return root


def make_library(path: Path, *, function: str, value: int = 0, calls: str = "", flags: tuple[str, ...] = ()) -> Path:
    """A library whose `function` returns `value`, plus what `calls` returns. Its DT_SONAME is its file's name."""
    body = f"int {calls}(void);\n" if calls else ""
    body += f"int {function}(void) {{ return {value}{f' + {calls}()' if calls else ''}; }}\n"
    return _compile(path, body, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", *flags)


def make_program(path: Path, *, calls: str = "", flags: tuple[str, ...] = ()) -> Path:
    """A program whose exit status is what the function `calls` returns, or 0."""
    body = f"int {calls}(void);\n" if calls else ""
    return _compile(path, body + f"int main(void) {{ return {f'{calls}()' if calls else '0'}; }}\n", *flags)


def linked(*libraries: Path) -> tuple[str, ...]:
    """Flags that link these libraries; what they need themselves is left to be found."""
    return (*map(str, libraries), "-Wl,--allow-shlib-undefined")


def _compile(path: Path, body: str, *flags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-x", "c", "-", "-x", "none", "-o", str(path), *flags]
    subprocess.run(command, input=body, text=True, check=True)
    return path
