"""Links to the commands that `skim setup` makes where the installation could not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import commands
from engine.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for directory in ("usr/local/bin", "usr/bin", "opt/skim/share/skim"):
        (tmp_path / directory).mkdir(parents=True)
    return Layout(root=str(tmp_path))


def links(layout: Layout) -> dict[str, str]:
    return {
        f"{directory}/{name}": os.readlink(layout.at(f"{directory}/{name}"))
        for directory in commands.DIRECTORIES
        if os.path.isdir(layout.at(directory))
        for name in sorted(os.listdir(layout.at(directory)))
    }


def usr_cannot_be_written(path: str) -> bool:
    return "/usr" not in path


def test_links_of_the_installation_are_enough(layout: Layout) -> None:
    os.symlink("/opt/skim/bin/docker", layout.at("/usr/local/bin/docker"))
    assert commands.link(layout) == []
    assert list(links(layout)) == ["/usr/local/bin/docker"]


def test_links_are_made_where_none_is_and_removed_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(commands, "_can_be_written", usr_cannot_be_written)
    Path(layout.at("/usr/bin/rkt")).touch()
    said = commands.link(layout)
    assert links(layout) == {f"/opt/bin/{name}": f"/opt/skim/bin/{name}" for name in ("docker", "dockerd", "skim")}
    assert said == ["      docker, dockerd, skim linked in /opt/bin (not on this shell's PATH: add /opt/bin to it)"]
    assert commands.link(layout) == []
    commands.unlink(layout)
    assert not os.path.lexists(layout.at("/opt/bin"))


def test_a_program_of_somebody_else_is_left(layout: Layout) -> None:
    for name in ("docker", "skim"):
        Path(layout.at(f"/usr/local/bin/{name}")).write_text("somebody's")
    commands.link(layout)
    commands.unlink(layout)
    assert sorted(os.listdir(layout.at("/usr/local/bin"))) == ["docker", "skim"]


def test_what_the_installation_has_on_its_list_stays_for_it(layout: Layout) -> None:
    os.symlink("/opt/skim/bin/docker", layout.at("/usr/local/bin/docker"))
    Path(layout.at("/opt/skim/share/skim/installed")).write_text("ours /usr/local/bin/docker\n")
    commands.unlink(layout)
    assert list(links(layout)) == ["/usr/local/bin/docker"]


def test_where_nothing_can_be_written_it_says_where_they_are(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_can_be_written", lambda path: False)
    assert commands.link(layout) == ["      neither of /usr/local/bin and /opt/bin can be written: the commands are in /opt/skim/bin"]
