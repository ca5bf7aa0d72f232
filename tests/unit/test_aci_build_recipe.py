"""Recipes: what is shipped is right, and what is wrong is said, all of it, with its path."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from aci_build.recipe import load_recipe
from appc.errors import ManifestError, UserError

RECIPES = Path(__file__).parents[2] / "aci-build/recipes"

WRONG = """
title = 3
[image]
name = "Skim"
version = { pkg = "x" }
labels = { arch = 3 }
[source]
kind = "debian"
packages = ["Bad Package", "fine"]
path = "x"
[source.suites.sid]
with = ["x"]
[[program]]
path = "usr/bin/x"
[[program]]
path = "/usr/../bin/x"
optional = "yes"
[keep]
files = ["../x"]
[[file]]
path = "/a"
mode = "rwx"
[[link]]
path = "/a"
target = "/b"
[libraries]
extra = ["/usr/lib/libfoo.so"]
[app]
exec = "x"
usr = "root"
group = "root"
environment = [{ name = "A=B", value = "x" }]
[annotations]
"skim/unit" = { file = "missing" }
"Bad" = "x"
"""


def problems_of(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "test.toml"
    file.write_text(text)
    with pytest.raises(ManifestError) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    assert problems_of(tmp_path, WRONG).keys() == {
        "title",
        "image.name",
        "image.version.pkg",
        "image.version.package",
        "image.labels.arch",
        "source.packages[0]",
        "source.path",
        "source.suites.sid.with",
        "program[0].path",
        "program[1].path",
        "program[1].optional",
        "keep.files[0]",
        "file[0].mode",
        "link[0].path",
        "libraries.extra[0]",
        "app.exec",
        "app.usr",
        "app.user",
        "app.environment[0].name",
        "annotations.skim/unit.file",
        "annotations.Bad",
    }


def test_nothing_in_the_image_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, '[image]\nname = "x"\n[source]\nkind = "directory"\n')
    assert "puts nothing into the image" in problems[""]


def test_version_of_a_package_needs_packages(tmp_path: Path) -> None:
    recipe = '[image]\nname = "x"\nversion = { package = "y" }\n[source]\nkind = "directory"\n[[file]]\npath = "/x"\n'
    assert problems_of(tmp_path, recipe).keys() == {"image.version.package"}


@pytest.mark.parametrize(("content", "said"), [(b"[image", "is not TOML"), (b"\xff", "is not UTF-8")])
def test_not_a_document(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "test.toml").write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_recipe(tmp_path / "test.toml")


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: No such file"):
        load_recipe(tmp_path / "none.toml")


def test_a_suite_adds_and_takes_away(tmp_path: Path) -> None:
    file = tmp_path / "test.toml"
    file.write_text(
        '[image]\nname = "x"\nversion = "1"\n[[program]]\npath = "/x"\n'
        '[source]\nkind = "debian"\npackages = ["one", "two"]\noptional-packages = ["three", "four"]\n'
        '[source.suites.old]\npackages = ["five"]\nwithout = ["two", "three"]\n'
    )
    source = load_recipe(file).source
    assert source.packages_of("new") == (("one", "two"), ("three", "four"))
    assert source.packages_of("old") == (("one", "five"), ("four",))


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.name)
def test_shipped_recipes_hold(file: Path) -> None:
    assert load_recipe(file).name.startswith("skim/")


def test_stage1_has_the_contracts_annotations() -> None:
    annotations = load_recipe(RECIPES / "stage1-skim.toml").annotations
    assert annotations == {
        **{f"coreos.com/rkt/stage1/{entry}": f"/skim/{entry}" for entry in ("run", "enter", "stop", "gc")},
        "coreos.com/rkt/stage1/interface-version": "5",
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine (Debian package systemd)")
@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.unit")), ids=lambda file: file.name)
def test_systemd_accepts_the_drop_ins(file: Path, tmp_path: Path) -> None:
    (tmp_path / "test.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "test.service.d").mkdir()
    shutil.copy(file, tmp_path / "test.service.d/skim.conf")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / "test.service")], capture_output=True, text=True
    )
    assert "skim.conf" not in done.stderr
    assert done.returncode == 0, done.stderr
