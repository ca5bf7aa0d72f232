"""Which stage1 is taken, and what it is handed for its version of the interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appc.errors import UserError
from appc.image import ImageManifest, parse_image_manifest
from poddir import pods
from stage0 import gc_command, stage1_image
from stage0.configuration import Configuration, read_configuration
from stage0.context import Context
from stage0.dns import Names
from stage0.manifest import inheritable
from stage0.output import Failure
from stage0.stage1 import RunOptions, Stage1, enter_arguments, gc_arguments, run_arguments, stop_arguments
from stage0.stage1_image import Stage1Choice, choose_stage1
from stub_stage1 import image_manifest

EVERYTHING = RunOptions(
    networks={"a": "", "b": "x=1"},
    names=Names(resolv_mode="host"),
    debug=True,
    interactive=True,
    local_config="/etc/rkt",
    hostname="h",
    ipc="parent",
    insecure=frozenset({"image", "capabilities", "paths", "seccomp"}),
)
TOO_OLD = {
    "--hostname=h": "warning: --hostname option is not supported by stage1",
    "--dns-conf-mode=resolv=host,hosts=default": "warning: --dns-conf-mode option not supported by stage1",
    "--ipc=parent": "warning: --ipc option is not supported by stage1",
}
SINCE = {
    "--debug": 1,
    "--net=a,b:x=1": 1,
    "--interactive": 1,
    "--local-config=/etc/rkt": 1,
    "--hostname=h": 2,
    "--dns-conf-mode=resolv=host,hosts=default": 4,
    "--disable-capabilities-restriction": 3,
    "--disable-paths": 3,
    "--disable-seccomp": 3,
    "--ipc=parent": 6,
}


def stage1(version: str | None, *names: str) -> Stage1:
    annotations = [{"name": f"coreos.com/rkt/stage1/{name}", "value": f"/{name}"} for name in names]
    if version is not None:
        annotations.append({"name": "coreos.com/rkt/stage1/interface-version", "value": version})
    return Stage1(pod="/pod", manifest=parse_image_manifest(json.dumps(image_manifest("example.com/s", annotations=annotations))))


@pytest.mark.parametrize("version", [None, "1", "2", "3", "4", "5", "6"])
def test_run_arguments_by_version(version: str | None) -> None:
    number = int(version or "1")
    arguments, warnings = run_arguments(stage1(version, "run"), "UUID", EVERYTHING)
    assert arguments == ["/pod/stage1/rootfs/run", *(argument for argument, since in SINCE.items() if number >= since), "UUID"]
    assert warnings == [text for argument, text in TOO_OLD.items() if number < SINCE[argument]]


def test_least_run_arguments() -> None:
    arguments, warnings = run_arguments(stage1("5", "run"), "UUID", RunOptions(networks={}, names=Names()))
    assert (arguments, warnings) == (["/pod/stage1/rootfs/run", "--net=default", "UUID"], [])


def test_other_entrypoints() -> None:
    image = stage1("5", "gc", "stop", "enter")
    assert gc_arguments(image, "U", debug=True, local_config="/l") == ["/pod/stage1/rootfs/gc", "--debug", "--local-config", "/l", "U"]
    assert stop_arguments(image, "U", force=False) == ["/pod/stage1/rootfs/stop", "U"]
    assert enter_arguments(image, "/tree", 7, "a", ["x", "-y"]) == ["/tree/enter", "--pid=7", "--appname=a", "--", "x", "-y"]


def test_wrong_version() -> None:
    with pytest.raises(Failure, match="error parsing interface version"):
        run_arguments(stage1("five", "run"), "U", EVERYTHING)


class FakeImages:
    """Notes what is looked for; has what is in `names`."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.found: list[tuple[str, bool]] = []

    def find(self, reference: str, *, trusted: bool = False) -> str:
        self.found.append((reference, trusted))
        return "key"

    def stored(self, reference: str) -> str | None:
        return f"stored {reference}" if reference in self.names else None

    def manifest(self, key: str) -> ImageManifest:
        raise NotImplementedError


def choose(directory: Path, images: FakeImages, choice: Stage1Choice = Stage1Choice()) -> str:  # noqa: B008  # a value, never changed
    context = Context()
    context.local_config, context.system_config = str(directory), "/nonexistent"
    return choose_stage1(context, images, choice)  # type: ignore[arg-type]


def configure(directory: Path, kind: str, **members: str) -> None:
    folder = directory / f"{kind}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps({"rktKind": kind, "rktVersion": "v1", **members}))


def test_flag_wins(tmp_path: Path) -> None:
    configure(tmp_path, "stage1", name="example.com/s", version="1")
    images = FakeImages("example.com/s:1")
    assert choose(tmp_path, images, Stage1Choice(kind="stage1-path", location="/x/y")) == "key"
    assert images.found == [("/x/y", False)]


def test_images_directory_and_what_is_installed_are_trusted(tmp_path: Path) -> None:
    images = FakeImages()
    choose(tmp_path, images, Stage1Choice(kind="stage1-from-dir", location="s.aci"))
    configure(tmp_path, "paths", **{"stage1-images": "/elsewhere"})
    choose(tmp_path, images, Stage1Choice(kind="stage1-from-dir", location="s.aci"))
    assert images.found == [("/opt/skim/images/s.aci", True), ("/elsewhere/s.aci", False)]


def test_configured_name_then_location(tmp_path: Path) -> None:
    configure(tmp_path, "stage1", name="example.com/s", version="1", location="/l/s.aci")
    assert choose(tmp_path, FakeImages("example.com/s:1")) == "stored example.com/s:1"
    images = FakeImages()
    assert choose(tmp_path, images) == "key"
    assert images.found == [("/l/s.aci", False)]


def test_default_is_the_installed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stage1-skim.aci"
    monkeypatch.setattr(stage1_image, "default_locations", lambda: [str(file)])
    with pytest.raises(UserError, match="there is no stage1 image"):
        choose(tmp_path, FakeImages())
    assert choose(tmp_path, FakeImages("skim/stage1-skim")) == "stored skim/stage1-skim"
    file.touch()
    images = FakeImages("skim/stage1-skim")
    assert choose(tmp_path, images) == "key"
    assert images.found == [(str(file), True)]


def test_later_directories_win(tmp_path: Path) -> None:
    configure(tmp_path / "a", "paths", data="/a", **{"stage1-images": "/i"})
    configure(tmp_path / "b", "paths", data="/b")
    found = read_configuration([str(tmp_path / "a"), str(tmp_path / "b"), ""])
    assert found == Configuration(data_directory="/b", stage1_images_directory="/i")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("paths", {"data": "/a"}), ("paths", {"data": "/b"})], "data directory is already set in"),
        ([("paths", {"data": "a"})], "data must be an absolute path"),
        ([("stage1", {"name": "n"})], "stage1 name is set, stage1 version is not"),
        ([("stage1", {"location": "ftp://x"})], "location must be an absolute path or a URL"),
        ([("stage1", {"rktVersion": "v2"})], 'needs "rktKind": "stage1" and "rktVersion": "v1"'),
    ],
)
def test_wrong_configuration(tmp_path: Path, files: list[tuple[str, dict[str, str]]], message: str) -> None:
    for kind, members in files:
        configure(tmp_path, kind, **members)
    with pytest.raises(UserError, match=message):
        read_configuration([str(tmp_path)])


def test_variables_that_no_manifest_can_hold() -> None:
    kept, refused = inheritable({"A": "1", "BASH_FUNC_f%%": "() { :; }", "B": "\udcff", "_x.y-z": ""})
    assert (kept, refused) == ({"A": "1", "_x.y-z": ""}, ["BASH_FUNC_f%%", "B"])


def test_lost_embryos_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pods.make_state_directories(str(tmp_path))
    embryo = tmp_path / "pods/embryo/11111111-0000-4000-8000-000000000000"
    embryo.mkdir()
    context = Context()
    monkeypatch.setattr(Context, "data_directory", str(tmp_path))
    gc_command._remove_embryos(context)
    assert embryo.exists()
    monkeypatch.setattr(gc_command, "_EMBRYO_EXPIRATION", -1)
    gc_command._remove_embryos(context)
    assert not embryo.exists()
