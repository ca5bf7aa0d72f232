"""The closure of libraries and relocation, on programs compiled here: found where the loader would, run from wherever they are put."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aci_build import relocation
from aci_build.elf import read_elf
from aci_build.libraries import Closure, find_closure
from appc.errors import UserError
from small_programs import LIBRARIES, LOADER, linked, make_library, make_program, make_root, needs_compiler

pytestmark = needs_compiler


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


def closure_of(root: Path, *programs: str, extra: tuple[str, ...] = ()) -> Closure:
    return find_closure(str(root), {program: program for program in programs}, extra)


def install(root: Path, rootfs: Path, closure: Closure, *programs: str) -> None:
    """Copies programs and libraries to `rootfs` and relocates them there."""
    for program in programs:
        (rootfs / program.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / program.lstrip("/"), rootfs / program.lstrip("/"))
    (rootfs / relocation.image_directory(closure).lstrip("/")).mkdir(parents=True)
    relocation.install_libraries(str(root), str(rootfs), closure)
    relocation.relocate(str(rootfs), closure)


def test_what_libraries_need_is_found_and_used(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relocation, "RUN_DIRECTORY", str(tmp_path / "run"))
    deep = make_library(root / LIBRARIES / "libdeep.so.1", function="deep", value=40)
    near = make_library(root / LIBRARIES / "libnear.so.2", function="near", value=2, calls="deep", flags=linked(deep))
    make_program(root / "usr/bin/app", calls="near", flags=linked(near))
    closure = closure_of(root, "/usr/bin/app")
    assert closure.libraries.keys() == {"libnear.so.2", "libdeep.so.1", "libc.so.6", LOADER}
    assert closure.loader == LOADER
    rootfs = tmp_path / "rootfs"
    install(root, rootfs, closure, "/usr/bin/app")
    relocation.check_relocated(str(rootfs), closure)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / closure.digest).symlink_to(rootfs / "usr/lib/skim" / closure.digest)
    assert subprocess.run([rootfs / "usr/bin/app"], env={}).returncode == 42
    for path in relocation.elf_files(str(rootfs)):
        elf = read_elf(path)
        if elf is not None and elf.dynamic and not path.endswith(LOADER):
            assert (elf.rpath, elf.runpath) == ((f"{tmp_path}/run/{closure.digest}",), ())
    assert (rootfs / "usr/lib/skim" / closure.digest / LOADER).read_bytes() == (root / LIBRARIES / LOADER).read_bytes()


def test_a_missing_library_is_named_with_what_needs_it(root: Path) -> None:
    deep = make_library(root / LIBRARIES / "libdeep.so.1", function="deep")
    near = make_library(root / LIBRARIES / "libnear.so.2", function="near", calls="deep", flags=linked(deep))
    make_program(root / "usr/bin/app", calls="near", flags=linked(near))
    deep.unlink()
    with pytest.raises(UserError, match=r"^libnear\.so\.2 needs the library libdeep\.so\.1, which is not in the source"):
        closure_of(root, "/usr/bin/app")


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_search_paths_beside_the_program(root: Path, tmp_path: Path, tags: str) -> None:
    own = make_library(root / "opt/app/lib/libown.so", function="own")
    make_program(root / "opt/app/bin/app", calls="own", flags=(*linked(own), f"-Wl,-rpath,$ORIGIN/../lib,{tags}"))
    closure = closure_of(root, "/opt/app/bin/app")
    assert closure.libraries["libown.so"].origin == "/opt/app/lib/libown.so"
    install(root, tmp_path / "rootfs", closure, "/opt/app/bin/app")
    relocation.check_relocated(str(tmp_path / "rootfs"), closure)


def test_rpath_holds_for_what_libraries_need_and_runpath_does_not(root: Path) -> None:
    deep = make_library(root / "opt/lib/libdeep.so", function="deep")
    near = make_library(root / "opt/lib/libnear.so", function="near", calls="deep", flags=linked(deep))
    make_program(root / "opt/bin/old", calls="near", flags=(*linked(near), "-Wl,-rpath,/opt/lib,--disable-new-dtags"))
    make_program(root / "opt/bin/new", calls="near", flags=(*linked(near), "-Wl,-rpath,/opt/lib,--enable-new-dtags"))
    assert "libdeep.so" in closure_of(root, "/opt/bin/old").libraries
    with pytest.raises(UserError, match=r"^libnear\.so needs the library libdeep\.so"):
        closure_of(root, "/opt/bin/new")


def test_a_library_named_by_its_path_is_outside(root: Path) -> None:
    own = make_library(root / "opt/libown.so", function="own")
    program = make_program(root / "usr/bin/app", calls="own", flags=linked(own))
    subprocess.run([relocation.find_patchelf(), "--replace-needed", "libown.so", "/opt/libown.so", program], check=True)
    with pytest.raises(UserError, match=r"names the library /opt/libown\.so by its path and would find it outside the image"):
        closure_of(root, "/usr/bin/app")


def test_two_libraries_of_one_name(root: Path) -> None:
    for side in ("one", "two"):
        own = make_library(root / f"opt/{side}/libown.so", function="own", value=len(side))
        make_program(root / f"opt/{side}/app", calls="own", flags=(*linked(own), "-Wl,-rpath,$ORIGIN"))
    with pytest.raises(UserError, match=r"/opt/two/app uses /opt/two/libown\.so as libown\.so, but /opt/one/app uses"):
        closure_of(root, "/opt/one/app", "/opt/two/app")


def test_the_loader_must_be_there(root: Path) -> None:
    make_program(root / "usr/bin/app")
    (root / LIBRARIES / LOADER).unlink()
    with pytest.raises(UserError, match=r"/usr/bin/app needs the loader /lib64/ld-linux-x86-64\.so\.2, which the source does not have"):
        closure_of(root, "/usr/bin/app")


def test_a_library_for_another_machine_is_passed_over(root: Path) -> None:
    own = make_library(root / "usr/lib/libown.so", function="own")
    make_program(root / "usr/bin/app", calls="own", flags=linked(own))
    foreign = bytearray(own.read_bytes())
    foreign[18] = 183  # e_machine: EM_AARCH64
    (root / LIBRARIES / "libown.so").write_bytes(foreign)
    assert closure_of(root, "/usr/bin/app").libraries["libown.so"].origin == "/usr/lib/libown.so"


def test_extra_libraries(root: Path) -> None:
    make_program(root / "usr/bin/app")
    deep = make_library(root / LIBRARIES / "libdeep.so", function="deep")
    make_library(root / LIBRARIES / "libplugin.so", function="plugin", calls="deep", flags=linked(deep))
    assert {"libplugin.so", "libdeep.so"} < closure_of(root, "/usr/bin/app", extra=("libplugin.so",)).libraries.keys()
    with pytest.raises(UserError, match=r"library libnone\.so, which the recipe names in libraries\.extra, is not in the source"):
        closure_of(root, "/usr/bin/app", extra=("libnone.so",))


def test_static_programs_need_nothing(root: Path, tmp_path: Path) -> None:
    make_program(root / "usr/bin/app", flags=("-static",))
    assert closure_of(root, "/usr/bin/app").libraries == {}


def test_a_damaged_program_is_named(root: Path) -> None:
    program = make_program(root / "usr/bin/app")
    program.write_bytes(program.read_bytes()[:100])
    with pytest.raises(UserError, match="usr/bin/app is a damaged ELF file"):
        closure_of(root, "/usr/bin/app")


def test_what_was_not_relocated_is_found(root: Path, tmp_path: Path) -> None:
    make_program(root / "usr/bin/app")
    closure = closure_of(root, "/usr/bin/app")
    rootfs = tmp_path / "rootfs"
    install(root, rootfs, closure, "/usr/bin/app")
    shutil.copy2(root / "usr/bin/app", rootfs / "usr/bin/late")
    with pytest.raises(UserError, match=r"/usr/bin/late would be loaded by /lib64/ld-linux-x86-64\.so\.2, outside the image"):
        relocation.check_relocated(str(rootfs), closure)


def test_the_digest_is_of_names_and_contents(root: Path) -> None:
    for name, library in (("one", "libone.so"), ("two", "libtwo.so")):
        own = make_library(root / LIBRARIES / library, function=name)
        make_program(root / f"usr/bin/{name}", calls=name, flags=linked(own))
    first = closure_of(root, "/usr/bin/one", "/usr/bin/two").digest
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert closure_of(root, "/usr/bin/two", "/usr/bin/one").digest == first
    make_library(root / LIBRARIES / "libone.so", function="one", value=1)
    assert closure_of(root, "/usr/bin/one", "/usr/bin/two").digest != first
