"""Links to the commands that `skim setup` makes where the installation could not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import commands
from engine.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for directory in ("usr/local/bin", "usr/bin", "usr/sbin", "opt/skim/share/skim"):
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


DOCKER = "/run/skim/docker/docker/usr/bin/docker"
WHERE_PACKAGES_HAVE_THEM = {
    "/usr/bin/docker": DOCKER,
    "/usr/bin/dockerd": "/opt/skim/bin/dockerd",
    "/usr/sbin/dockerd": "/opt/skim/bin/dockerd",
}


def test_links_of_the_installation_are_enough(layout: Layout) -> None:
    os.symlink(DOCKER, layout.at("/usr/local/bin/docker"))
    commands.link(layout)
    assert list(links(layout)) == ["/usr/local/bin/docker"]


def test_scripts_that_name_a_packages_path_find_ours_where_there_is_no_package(layout: Layout) -> None:
    os.symlink(DOCKER, layout.at("/usr/local/bin/docker"))
    said = commands.link(layout)
    assert said == ["      /usr/bin/docker, /usr/bin/dockerd, /usr/sbin/dockerd linked, too: they are what scripts and units name"]
    assert {path: os.readlink(layout.at(path)) for path in WHERE_PACKAGES_HAVE_THEM} == WHERE_PACKAGES_HAVE_THEM
    assert commands.link(layout) == []
    Path(layout.at("/usr/bin/docker")).unlink()
    Path(layout.at("/usr/bin/docker")).write_text("a package that came later")
    commands.link(layout)
    commands.unlink(layout)
    assert os.listdir(layout.at("/usr/bin")) == ["docker"]
    assert os.listdir(layout.at("/usr/sbin")) == []


def test_links_are_made_where_none_is_and_removed_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(commands, "_can_be_written", usr_cannot_be_written)
    Path(layout.at("/usr/bin/rkt")).touch()
    said = commands.link(layout)
    made = links(layout)
    assert made.pop("/opt/bin/docker") == DOCKER
    assert made.pop("/opt/bin/dockerd") == "/opt/skim/bin/dockerd"
    assert list(made) == [f"/opt/bin/{name}" for name in ("containerd", "ctr", "runc", "skim")]
    assert said[0] == "      docker, containerd, ctr, runc, dockerd, skim linked in /opt/bin (not on this shell's PATH: add /opt/bin to it)"
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
    os.symlink(DOCKER, layout.at("/usr/local/bin/docker"))
    Path(layout.at("/opt/skim/share/skim/installed")).write_text("ours /usr/local/bin/docker\n")
    commands.unlink(layout)
    assert list(links(layout)) == ["/usr/local/bin/docker"]


def test_where_nothing_can_be_written_it_says_where_they_are(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_can_be_written", lambda path: False)
    said = commands.link(layout)
    assert said[0] == "      neither of /usr/local/bin and /opt/bin can be written: the commands are in /opt/skim/bin and /run/skim/docker"
