"""Paths in an image never lead to the host's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc.errors import UserError
from linux.inside import open_parent, outside, resolve
from pod_directories import add_program
from stage1_skim.rootfs import Interpreter, find_executable, script_interpreter


def test_absolute_link_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("/usr/bin")
    assert resolve(str(tmp_path), "/bin/sh") == "/usr/bin/sh"
    assert outside(str(tmp_path), "/bin/sh") == f"{tmp_path}/usr/bin/sh"


def test_link_out_of_the_root_ends_at_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("../../../../../../etc/shadow")
    assert resolve(str(tmp_path), "/etc/passwd") == "/etc/shadow"


def test_a_place_is_opened_and_what_is_missing_made(tmp_path: Path) -> None:
    parent, name = open_parent(str(tmp_path), "/a/b/c")
    assert (Path(f"/proc/self/fd/{parent}").resolve(), name) == (tmp_path / "a/b", "c")
    os.close(parent)
    parent, name = open_parent(str(tmp_path), "/c")
    assert (Path(f"/proc/self/fd/{parent}").resolve(), name) == (tmp_path, "c")
    os.close(parent)


def test_a_link_that_came_after_the_path_was_resolved_is_not_followed(tmp_path: Path) -> None:
    root, host = tmp_path / "root", tmp_path / "host"
    (root / "a").mkdir(parents=True)
    host.mkdir()
    found = resolve(str(root), "/a/b/c")
    (root / "a/b").symlink_to(host)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="/root/a/b/c"):
        open_parent(str(root), found)
    assert list(host.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_dots_are_taken_after_links(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    assert resolve(str(tmp_path), "/link/../c") == "/a/c"


def test_loop_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(UserError, match="/one: too many levels"):
        resolve(str(tmp_path), "/one")


@given(st.lists(st.sampled_from(["..", ".", "a", "up", "abs", "deep", ""]), max_size=12))
def test_nothing_resolves_above_the_root(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "a").mkdir()
    (root / "up").symlink_to("../..")
    (root / "abs").symlink_to("/../../etc")
    (root / "a/deep").symlink_to("../../../../a")
    resolved = resolve(str(root), "/" + "/".join(parts))
    assert resolved.startswith("/")
    assert ".." not in resolved.split("/")


def test_absolute_program_must_be_in_the_image(tmp_path: Path) -> None:
    assert Path("/bin/sh").exists()
    assert find_executable(str(tmp_path), "/bin/sh", directory="/", search=[]) is None


def test_bare_name_is_searched_on_the_path_of_the_image(tmp_path: Path) -> None:
    add_program(tmp_path, "/opt/second/tool")
    add_program(tmp_path, "/opt/third/tool")
    (tmp_path / "opt/first").mkdir()
    (tmp_path / "opt/first/tool").write_text("not executable")
    found = find_executable(str(tmp_path), "tool", directory="/", search=["/opt/first", "/opt/second", "/opt/third"])
    assert found == "/opt/second/tool"


def test_relative_path_starts_at_the_working_directory(tmp_path: Path) -> None:
    add_program(tmp_path, "/srv/bin/tool")
    assert find_executable(str(tmp_path), "./bin/tool", directory="/srv", search=[]) == "/srv/bin/tool"
    assert find_executable(str(tmp_path), "./bin/tool", directory="/", search=[]) is None


def test_interpreter_of_a_script_comes_from_the_image(tmp_path: Path) -> None:
    add_program(tmp_path, "/usr/bin/sh")
    (tmp_path / "bin").symlink_to("usr/bin")
    add_program(tmp_path, "/script", "#! /bin/sh -e  \necho")
    assert script_interpreter(str(tmp_path), "/script") == Interpreter(program="/usr/bin/sh", words=("/bin/sh", "-e"))


def test_interpreter_that_the_image_lacks_is_left_to_the_host(tmp_path: Path) -> None:
    add_program(tmp_path, "/script", "#!/bin/sh\n")
    assert script_interpreter(str(tmp_path), "/script") is None
