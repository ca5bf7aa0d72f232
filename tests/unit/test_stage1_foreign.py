"""Relocating images that aci-build has not made: on small programs that are compiled here and run from a root that is not `/`."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc.errors import UserError
from pod_directories import UUID, app_entry, app_section, image_manifest, make_pod
from small_programs import LIBRARIES, LOADER, linked, make_library, make_program, make_root, needs_compiler
from stage1_skim import foreign, loader, places, views
from stage1_skim.foreign import check_program, foreign_image, is_foreign
from stage1_skim.pod import Pod, read_pod
from stage1_skim.relocation import GLIBC_LOADER, MUSL_LOADER, Names, Relocation


@pytest.fixture
def names() -> Iterator[Names]:
    """As short as the host's: what is written over other paths has no more room."""
    folder = tempfile.mkdtemp(prefix="s", dir="/tmp")
    yield Names(view=f"{folder}/v", cache=f"{folder}/c")
    shutil.rmtree(folder)


def relocate(root: Path, names: Names, layer: Path | None = None) -> None:
    Relocation(str(root), names, str(layer) if layer else None).run()
    for link, target in ((names.view, root), (names.cache, root / ".ld/cache")):
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(target, link)


def loaded(program: Path) -> dict[str, str]:
    """What the program's own loader finds for it, by the names that are asked for."""
    listed = subprocess.run([interpreter(program), "--list", program], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines() if "=>" in line]
    return {words[0]: words[2] for words in lines}


def interpreter(program: Path) -> str:
    shown = subprocess.run(["readelf", "--program-headers", "--wide", program], capture_output=True, text=True, check=True).stdout
    return shown.partition("program interpreter: ")[2].partition("]")[0]


def status(program: Path) -> int:
    return subprocess.run([program], check=False).returncode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A program, a library that it needs, and one that this needs in turn."""
    root = make_root(tmp_path / "root")
    inner = make_library(root / "usr/lib/libskiminner.so.1", function="inner", value=2)
    outer = make_library(root / LIBRARIES / "libskimouter.so.1", function="outer", value=40, calls="inner", flags=linked(inner))
    make_program(root / "usr/bin/answer", calls="outer", flags=linked(outer))
    return root


@needs_compiler
class TestPrograms:
    def test_runs_with_the_libraries_of_its_root_alone(self, root: Path, names: Names) -> None:
        relocate(root, names)
        assert status(root / "usr/bin/answer") == 42
        found = loaded(root / "usr/bin/answer")
        assert {"libskiminner.so.1", "libskimouter.so.1", "libc.so.6"} <= set(found)
        assert all(path.startswith(names.view + "/") for path in found.values())

    def test_what_the_image_lacks_is_not_taken_from_the_host(self, root: Path, names: Names) -> None:
        (root / LIBRARIES / "libc.so.6").unlink()
        relocate(root, names)
        done = subprocess.run([root / "usr/bin/answer"], capture_output=True, text=True, check=False)
        assert done.returncode == 127
        assert "libc.so.6: cannot open shared object file" in done.stderr

    def test_a_library_by_its_soname_alone(self, root: Path, names: Names) -> None:
        (root / "usr/lib/libskiminner.so.1").rename(root / "usr/lib/libskiminner.so.1.0.0")
        relocate(root, names)
        assert status(root / "usr/bin/answer") == 42

    def test_directories_of_the_images_configuration(self, root: Path, names: Names) -> None:
        (root / "etc/ld.so.conf.d").mkdir(parents=True)
        (root / "etc/ld.so.conf").write_text("include ld.so.conf.d/*.conf  # and no more\n")
        (root / "etc/ld.so.conf.d/own.conf").write_text("/opt/own\n")
        (root / "opt/own").mkdir(parents=True)
        (root / "usr/lib/libskiminner.so.1").rename(root / "opt/own/libskiminner.so.1")
        relocate(root, names)
        assert loaded(root / "usr/bin/answer")["libskiminner.so.1"] == f"{names.view}/opt/own/libskiminner.so.1"

    @pytest.mark.parametrize("directory", ["/usr/lib/x86_64-linux-gnu/its-own-private-libraries", "/opt/l"])
    @pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
    def test_search_paths_lead_into_the_image(self, root: Path, names: Names, directory: str, tags: str) -> None:
        """One is long enough for a short name to be written over it, one is not."""
        library = make_library(root / directory.lstrip("/") / "libskimprivate.so.1", function="private", value=7)
        program = make_program(root / "usr/bin/private", calls="private", flags=(*linked(library), f"-Wl,{tags},-rpath,{directory}"))
        relocate(root, names)
        assert status(program) == 7
        assert loaded(program)["libskimprivate.so.1"].startswith(names.view + "/")

    def test_origin_is_where_the_program_is(self, root: Path, names: Names) -> None:
        library = make_library(root / "opt/app/lib/libskimprivate.so.1", function="private", value=7)
        program = make_program(root / "opt/app/bin/private", calls="private", flags=(*linked(library), "-Wl,-rpath,$ORIGIN/../lib"))
        relocate(root, names)
        assert status(program) == 7

    def test_static_programs_are_left_alone(self, root: Path, names: Names) -> None:
        program = make_program(root / "usr/bin/static", flags=("-static",))
        before = program.read_bytes()
        relocate(root, names)
        assert program.read_bytes() == before

    def test_again_for_another_place_as_after_an_export(self, root: Path, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        program = root / "usr/bin/answer"
        script = root / "usr/bin/script"
        script.write_text("#!/usr/bin/answer\n")
        script.chmod(0o755)
        monkeypatch.setattr("stage1_skim.relocation.IMAGES_DIRECTORY", os.path.dirname(names.view))
        relocate(root, Names(view=f"{os.path.dirname(names.view)}/u", cache=names.cache))
        relocate(root, names)
        assert status(program) == 42
        assert interpreter(program) == names.view + GLIBC_LOADER
        assert script.read_text() == f"#!{names.view}/usr/bin/answer\n"

    def test_a_loader_of_another_kind_is_refused(self, root: Path, names: Names) -> None:
        (root / LIBRARIES / LOADER).write_bytes(b"\x7fELF")
        with pytest.raises(UserError, match="is not built like those that are known"):
            relocate(root, names)


@needs_compiler
class TestLayer:
    def test_the_tree_is_not_written_and_the_layer_has_what_changed(self, root: Path, names: Names, tmp_path: Path) -> None:
        program = root / "usr/bin/answer"
        os.link(program, root / "usr/bin/reply")
        program.chmod(0o4711)
        os.utime(program, (1, 1))
        (root / "usr/bin").chmod(0o711)
        os.utime(root / "usr/bin", (2, 2))
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        layer = tmp_path / "layer"
        layer.mkdir()
        relocate(root, names, layer)
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
        changed = layer / "usr/bin/answer"
        assert interpreter(changed) == names.view + GLIBC_LOADER
        assert changed.stat().st_ino == (layer / "usr/bin/reply").stat().st_ino
        assert stat.S_IMODE(changed.stat().st_mode) == 0o4711
        assert changed.stat().st_mtime == 1
        assert stat.S_IMODE((layer / "usr/bin").stat().st_mode) == 0o711
        assert (layer / "usr/bin").stat().st_mtime == 2
        assert not (layer / "usr/lib/libskiminner.so.1").exists()

    def test_in_place_keeps_modes_and_times(self, root: Path, names: Names) -> None:
        program = root / "usr/bin/answer"
        program.chmod(0o4755)
        os.utime(program, (1, 1))
        relocate(root, names)
        assert stat.S_IMODE(program.stat().st_mode) == 0o4755
        assert program.stat().st_mtime == 1

    def test_nothing_is_written_through_a_link_of_the_image(self, root: Path, names: Names, tmp_path: Path) -> None:
        (tmp_path / "host").mkdir()
        (root / ".ld").symlink_to(tmp_path / "host")
        relocate(root, names)
        assert list((tmp_path / "host").iterdir()) == []
        assert status(root / "usr/bin/answer") == 42


class TestTexts:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        tree = tmp_path / "tree"
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin/python3").write_text("")
        (tree / "etc/alternatives").mkdir(parents=True)
        return tree

    def test_absolute_links_to_what_the_image_has_become_relative(self, tree: Path, names: Names) -> None:
        (tree / "usr/bin/editor").symlink_to("/etc/alternatives/editor")
        (tree / "etc/alternatives/editor").symlink_to("/usr/bin/python3")
        (tree / "etc/mtab").symlink_to("/proc/self/mounts")
        relocate(tree, names)
        assert (tree / "usr/bin/editor").resolve() == tree / "usr/bin/python3"
        assert os.readlink(tree / "etc/mtab") == "/proc/self/mounts"

    @pytest.mark.parametrize(
        ("line", "changed"),
        [
            ("#!/usr/bin/python3\n", "#!{view}/usr/bin/python3\n"),
            ("#! /usr/bin/python3 -I\n", "#! {view}/usr/bin/python3 -I\n"),
            ("#!/usr/bin/perl\n", "#!/usr/bin/perl\n"),
            ("#!\n", "#!\n"),
            ("#!/usr/bin/python3 " + 236 * "x" + "\n", "#!/usr/bin/python3 " + 236 * "x" + "\n"),
        ],
    )
    def test_scripts_take_the_images_interpreter(self, tree: Path, names: Names, line: str, changed: str) -> None:
        script = tree / "script"
        script.write_text(line + "body #!/usr/bin/python3\n")
        script.chmod(0o755)
        relocate(tree, names)
        assert script.read_text() == changed.format(view=names.view) + "body #!/usr/bin/python3\n"

    def test_a_text_that_is_no_program_stays(self, tree: Path, names: Names) -> None:
        (tree / "text").write_text("#!/usr/bin/python3\n")
        relocate(tree, names)
        assert (tree / "text").read_text() == "#!/usr/bin/python3\n"

    def test_virtual_environment(self, tree: Path, names: Names) -> None:
        (tree / "venv").mkdir()
        (tree / "venv/pyvenv.cfg").write_text("version = 3.13\nhome = /usr/bin\n")
        relocate(tree, names)
        assert (tree / "venv/pyvenv.cfg").read_text() == f"version = 3.13\nhome = {names.view}/usr/bin\n"


def test_musl(tmp_path: Path, names: Names) -> None:
    compiler = shutil.which("musl-gcc")
    installed = Path("/lib/ld-musl-x86_64.so.1")
    if compiler is None or not installed.exists():
        pytest.skip("no musl-gcc on this machine (Debian package musl-tools)")
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    shutil.copy2(installed.resolve(), root / "lib/ld-musl-x86_64.so.1")
    for name, text, flags in (
        ("usr/lib/libskimmusl.so", "int seven(void) { return 7; }", ["-shared", "-fPIC", "-Wl,-soname,libskimmusl.so"]),
        ("bin/program", "int seven(void); int main(void) { return seven(); }", [str(root / "usr/lib/libskimmusl.so")]),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-x", "c", "-", "-x", "none", *flags, "-o", str(root / name)]
        subprocess.run(command, input=text, text=True, check=True)
    relocate(root, names)
    assert status(root / "bin/program") == 7
    assert interpreter(root / "bin/program") == names.view + MUSL_LOADER


def test_what_is_written_over_paths_of_images_has_room() -> None:
    key = next(views._keys("0123", capital=True))
    view = f"{places.IMAGES_DIRECTORY}/{key}"
    assert len(f"{places.CACHES_DIRECTORY}/{key}") <= len(loader.CACHE)
    assert len(view + GLIBC_LOADER) <= len(foreign.GLIBC)
    assert len(view + MUSL_LOADER) <= len(foreign.MUSL)


def test_keys_of_one_seed_differ_and_those_of_layers_and_copies_do_too() -> None:
    layers, copies = ([next(keys) for _ in range(900)] for keys in (views._keys("ffff", capital=True), views._keys("ffff", capital=False)))
    assert len({*layers, *copies}) == 1800
    assert all(key[0].isupper() for key in layers)


def compare(first: bytes, second: bytes) -> int:
    """As glibc's loader compares names in its cache: one character after the other, but runs of digits by their value."""
    while first:
        if first[:1].isdigit() and second[:1].isdigit():
            one = first[: len(first) - len(first.lstrip(b"0123456789"))]
            two = second[: len(second) - len(second.lstrip(b"0123456789"))]
            if int(one) != int(two):
                return int(one) - int(two)
            first, second = first[len(one) :], second[len(two) :]
        elif first[:1].isdigit() or second[:1].isdigit():
            return 1 if first[:1].isdigit() else -1
        elif first[:1] != second[:1]:
            return first[0] - (second[0] if second else 0)
        else:
            first, second = first[1:], second[1:]
    return -1 if second else 0


@given(st.sets(st.from_regex(r"\Alib[a-c0-2.+-]{1,6}\Z").map(str.encode), max_size=20))
def test_the_cache_is_in_the_loaders_order(found: set[bytes]) -> None:
    content = loader.cache_file({name: b"/" + name for name in found})
    count = int.from_bytes(content[20:24], "little")
    assert count == len(found)
    listed = []
    for index in range(count):
        at = int.from_bytes(content[48 + 24 * index + 4 : 48 + 24 * index + 8], "little")
        listed.append(content[at : content.index(b"\0", at)])
    assert all(compare(first, second) >= 0 for first, second in itertools.pairwise(listed))


class TestDecision:
    def pod(self, tmp_path: Path, annotations: dict[str, str] | None = None) -> Pod:
        image = image_manifest("example.com/a", app=app_section("/bin/a"), annotations=annotations or {})
        return read_pod(str(make_pod(tmp_path / "pod", app_entry("a", None), images={"a": image})), UUID)

    def test_an_image_with_a_loader_is_foreign_unless_aci_build_says_otherwise(self, tmp_path: Path) -> None:
        for given_annotations, expected in (({}, True), ({"skim/libraries": "0" * 32}, False)):
            pod = self.pod(tmp_path / str(expected), given_annotations)
            root = Path(pod.apps[0].root)
            assert not is_foreign(pod.apps[0])
            (root / "usr/lib64").mkdir(parents=True)
            (root / "lib64").symlink_to("/usr/lib64")
            (root / "usr/lib64" / LOADER).write_text("")
            assert is_foreign(pod.apps[0]) is expected

    def test_a_copy_is_relocated_in_place(self, tmp_path: Path) -> None:
        pod = self.pod(tmp_path)
        (Path(pod.apps[0].root) / "lib").mkdir()
        (Path(pod.apps[0].root) / "lib/ld-musl-x86_64.so.1").write_text("")
        image = foreign_image(pod, pod.apps[0])
        assert image is not None
        assert image.tree == ""

    @needs_compiler
    @pytest.mark.parametrize(
        ("wanted", "present", "said"),
        [
            ("/lib64/ld-linux-x86-64.so.2", False, "runs with the host's loader and the host's libraries"),
            ("/nix/store/x/ld-linux-x86-64.so.2", True, "cannot make use the image's libraries"),
            ("/no/such/ld-linux-x86-64.so.2", False, "neither the image nor the host has"),
            ("/lib64/ld-linux-x86-64.so.2", True, ""),
        ],
    )
    def test_a_program_that_gets_no_library_of_its_image_is_named(self, tmp_path: Path, wanted: str, present: bool, said: str) -> None:
        app = self.pod(tmp_path).apps[0]
        make_program(Path(app.root) / "bin/a", flags=(f"-Wl,--dynamic-linker,{wanted}",))
        if present:
            inside = Path(app.root + wanted)
            inside.parent.mkdir(parents=True)
            inside.write_text("")
        try:
            warning = check_program(app, "/bin/a") or ""
        except UserError as error:
            warning = str(error)
            assert error.hint
        assert said in warning
        assert not said or f"/bin/a of image example.com/a needs the loader {wanted}" in warning
