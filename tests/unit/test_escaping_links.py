"""Links of an image that lead out of it when they are followed on the host: accepted, as in any image, and never followed there.

An absolute link means a path of the image. A chain of links can leave it though each of them, by its text, does not.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appc.errors import UserError
from linux.inside import open_parent
from pod_directories import UUID, app_entry, app_root, app_section, make_pod
from stage0.image_import import import_image
from stage0.rendering import layers, render_into
from stage0.store import Store
from stage1_skim.pod import read_pod
from stage1_skim.rootfs import find_executable, script_interpreter
from stage1_skim.volumes import app_volumes
from unit.image_making import directory, manifest_bytes, member, symlink, write_image

# Where `chain` ends on a host: beside the directory that holds the rootfs.
CHAIN = (directory("rootfs/d"), symlink("rootfs/d/l1", ".."), symlink("rootfs/chain", "d/l1/../../etc"))


class World:
    """A rendered image and all around it: `etc/` is what the chain leads to, `host/` what the absolute link does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(str(path / "data"))
        self.rendered = path / "tree"
        self.root = self.rendered / "rootfs"
        for place in ("etc", "host"):
            (path / place).mkdir()
            program = path / place / "program"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        self.rendered.mkdir()

    def add(self, name: str, *members: object, **manifest: object) -> str:
        text = manifest_bytes(name=f"example.com/{name}", **manifest)
        path = write_image(self.path / f"{name}.aci", *members, manifest=text)  # type: ignore[arg-type]
        return import_image(self.store, path, verified=True)

    def render(self, key: str) -> None:
        render_into(self.store, layers(self.store, key), str(self.rendered))

    def outside(self) -> list[str]:
        return sorted(f"{place}/{name}" for place in ("etc", "host") for name in os.listdir(self.path / place))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


UNTOUCHED = ["etc/program", "host/program"]


def test_the_chain_leaves_the_image_where_it_is_followed(world: World) -> None:
    """Else the tests below would show nothing."""
    world.render(world.add("a", *CHAIN, symlink("rootfs/absolute", str(world.path / "host"))))
    assert (world.root / "chain").resolve() == world.path / "etc"
    assert (world.root / "chain/program").exists() and (world.root / "absolute/program").exists()


def test_links_are_rendered_as_links_and_nothing_is_written_through_them(world: World) -> None:
    base = world.add("base", *CHAIN, symlink("rootfs/absolute", str(world.path / "host")))
    above = [{"imageName": "example.com/base", "imageID": base}]
    upper = world.add("upper", (member("rootfs/other"), b"x"), dependencies=above)
    world.render(upper)
    assert os.readlink(world.root / "chain") == "d/l1/../../etc"
    assert os.readlink(world.root / "absolute") == str(world.path / "host")
    assert world.outside() == UNTOUCHED


@pytest.mark.parametrize("link", ["chain", "absolute"])
@pytest.mark.parametrize("upper_has_the_link", [True, False])
def test_an_image_cannot_write_below_a_link_of_another(world: World, link: str, upper_has_the_link: bool) -> None:
    links = (*CHAIN, symlink("rootfs/absolute", str(world.path / "host")))
    below = ((member(f"rootfs/{link}/written"), b"x"),)
    base = world.add("base", *(below if upper_has_the_link else links))
    upper = world.add("upper", *(links if upper_has_the_link else below), dependencies=[{"imageName": "example.com/base", "imageID": base}])
    try:
        world.render(upper)
    except (UserError, OSError):  # a refusal is as good
        pass
    assert world.outside() == UNTOUCHED


@pytest.mark.parametrize("link", ["chain", "absolute"])
def test_no_program_of_the_host_is_found_by_them(world: World, link: str) -> None:
    script = (member("rootfs/script", mode=0o755), f"#!/{link}/program\n".encode())
    world.render(world.add("a", *CHAIN, symlink("rootfs/absolute", str(world.path / "host")), script))
    root = str(world.root)
    for command, directory_, search in ((f"/{link}/program", "/", []), ("./program", f"/{link}", []), ("program", "/", [f"/{link}"])):
        assert find_executable(root, command, directory=directory_, search=search) is None
    assert script_interpreter(root, "/script") is None


@pytest.mark.parametrize("link", ["chain", "absolute", "absolute/../chain", "d/l1/chain"])
def test_no_volume_is_mounted_on_the_host_by_them(world: World, link: str) -> None:
    pod = make_pod(
        world.path / "pod",
        app_entry("a", app_section("/x"), mounts=[{"volume": "v", "path": f"/{link}/new"}]),
        volumes=[{"name": "v", "kind": "empty"}],
    )
    world.render(world.add("a", *CHAIN, symlink("rootfs/absolute", str(world.path / "host"))))
    root = app_root(pod, "a")
    root.rmdir()
    world.root.rename(root)
    read = read_pod(str(pod), UUID)
    (mount,) = app_volumes(read, read.apps[0]).mounts
    parent, name = open_parent(mount.root, mount.path)
    place = Path(f"/proc/self/fd/{parent}").resolve()
    os.close(parent)
    assert name == "new" and place.is_relative_to(root)
    assert sorted(os.listdir(root.parent)) == ["manifest", "rootfs"]
    assert world.outside() == UNTOUCHED
