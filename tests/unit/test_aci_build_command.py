"""The command aci-build as a person uses it: from directories and tarballs, and everything that can go wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from small_programs import LIBRARIES, linked, make_library, make_program, make_root, needs_actool, needs_compiler

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "aci-build/recipes"

PLAIN = """
[image]
name = "example.com/plain"
version = "1.0"
[source]
kind = "{kind}"
[[tree]]
from = "/"
path = "/opt"
[app]
exec = ["/opt/tool"]
user = "root"
group = "root"
"""

pytestmark = pytest.mark.slow


class Bench:
    """A place to build in: the source `source/`, the output in `out/`, temporary files in `temporary/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source, self.out, self.temporary = path / "source", path / "out", path / "temporary"
        for directory in (self.source, self.out, self.temporary):
            directory.mkdir()
        self.image = self.out / "image.aci"
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'aci-build'}",
            "TMPDIR": str(self.temporary),
            "SKIM_CACHE": str(path / "cache"),
        }
        self.environment.pop("SOURCE_DATE_EPOCH", None)

    def recipe(self, text: str, kind: str = "directory") -> Path:
        file = self.path / "recipe.toml"
        file.write_text(text.replace("{kind}", kind))
        return file

    def command(self, recipe: Path, *options: str) -> list[str]:
        return [sys.executable, "-m", "aci_build", str(recipe), "--output", str(self.image), *options]

    def run(self, recipe: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(recipe, *options), env=self.environment | variables, capture_output=True, text=True)

    def build(self, recipe: Path, *options: str, **variables: str) -> str:
        """Returns the image's ID."""
        done = self.run(recipe, *options, **variables)
        assert done.returncode == 0, done.stderr
        assert not list(self.temporary.iterdir())
        return done.stdout.strip()

    def fail(self, recipe: Path, *options: str, **variables: str) -> str:
        """Returns what the command said; the old output stays, nothing half-done is left."""
        self.image.write_text("old")
        done = self.run(recipe, *options, **variables)
        assert done.returncode == 254, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert [path.name for path in self.out.iterdir()] == ["image.aci"]
        assert self.image.read_text() == "old"
        assert not list(self.temporary.iterdir())
        errors = [line for line in done.stderr.splitlines() if line.startswith("aci-build: error: ")]
        assert len(errors) == 1
        return errors[0].removeprefix("aci-build: error: ")

    def members(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.image) as archive:
            return {member.name: member for member in archive}

    def read(self, member: str) -> bytes:
        with tarfile.open(self.image) as archive:
            file = archive.extractfile(member)
            assert file is not None
            return file.read()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def add_tool(directory: Path) -> None:
    (directory / "tool").write_text("#!/bin/sh\n")
    (directory / "tool").chmod(0o755)


def test_a_directory_becomes_an_image(bench: Bench) -> None:
    add_tool(bench.source)
    (bench.source / "data").mkdir()
    (bench.source / "data/link").symlink_to("../tool")
    image_id = bench.build(bench.recipe(PLAIN), "--source", str(bench.source))
    members = bench.members()
    assert members["rootfs/opt/tool"].mode == 0o755
    assert members["rootfs/opt/data/link"].linkname == "../tool"
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    manifest = json.loads(bench.read("manifest"))
    assert manifest["labels"][0] == {"name": "version", "value": "1.0"}
    assert manifest["annotations"] == [{"name": "skim/sources", "value": "/usr/share/skim/sources.json"}]
    assert image_id == "sha512-" + hashlib.sha512(gzip.decompress(bench.image.read_bytes())).hexdigest()[:64]


@needs_actool
def test_actool_takes_what_is_built(bench: Bench) -> None:
    add_tool(bench.source)
    bench.build(bench.recipe(PLAIN), "--source", str(bench.source))
    subprocess.run(["actool", "validate", bench.image], check=True)


def test_the_same_input_gives_the_same_bytes(bench: Bench) -> None:
    add_tool(bench.source)
    (bench.source / "empty").mkdir()
    bench.build(bench.recipe(PLAIN), "--source", str(bench.source))
    first = bench.image.read_bytes()
    time.sleep(1.1)
    copy = bench.path / "copy"
    shutil.copytree(bench.source, copy)  # new times for its directories
    old_umask = os.umask(0o077)
    try:
        bench.build(bench.recipe(PLAIN), "--source", str(copy))
    finally:
        os.umask(old_umask)
    assert bench.image.read_bytes() == first


def test_source_date_epoch_limits_times(bench: Bench) -> None:
    add_tool(bench.source)
    bench.build(bench.recipe(PLAIN), "--source", str(bench.source), SOURCE_DATE_EPOCH="86400")
    assert {member.mtime for member in bench.members().values()} == {86400}
    assert "SOURCE_DATE_EPOCH" in bench.fail(bench.recipe(PLAIN), "--source", str(bench.source), SOURCE_DATE_EPOCH="today")


def test_a_tarball_becomes_an_image(bench: Bench) -> None:
    for name in ("dockerd", "docker", "docker-proxy", "docker-init"):
        (bench.source / "docker").mkdir(exist_ok=True)
        (bench.source / "docker" / name).write_bytes(b"static")
    tarball = bench.path / "docker-1.2.3.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(bench.source / "docker", "docker")
    bench.build(RECIPES / "docker-static.toml", "--source", str(tarball), "--image-version", "1.2.3")
    assert "rootfs/usr/sbin/dockerd" in bench.members()
    assert json.loads(bench.read("manifest"))["labels"][0]["value"] == "1.2.3"
    record = json.loads(bench.read("rootfs/usr/share/skim/sources.json"))
    assert record["source"]["tarball"] == {"name": tarball.name, "sha256": hashlib.sha256(tarball.read_bytes()).hexdigest()}
    assert "--image-version" in bench.fail(RECIPES / "docker-static.toml", "--source", str(tarball))
    wanted = bench.recipe(PLAIN.replace('kind = "{kind}"', f'kind = "tarball"\nsha256 = "{"0" * 64}"'))
    assert f"the recipe wants {'0' * 64}" in bench.fail(wanted, "--source", str(tarball))
    tarball.write_bytes(tarball.read_bytes()[:50])
    assert f"cannot unpack tarball {tarball}" in bench.fail(bench.recipe(PLAIN, "tarball"), "--source", str(tarball))
    assert "cannot read tarball /none" in bench.fail(bench.recipe(PLAIN, "tarball"), "--source", "/none")


def test_the_stage1_image(bench: Bench) -> None:
    (bench.source / "_internal").mkdir()
    add_tool(bench.source)
    (bench.source / "tool").rename(bench.source / "stage1")
    bench.build(RECIPES / "stage1-skim.toml", "--source", str(bench.source))
    members = bench.members()
    assert {members[f"rootfs/skim/{entry}"].linkname for entry in ("run", "enter", "stop", "gc")} == {"stage1"}
    assert all(members[f"rootfs/{path}"].isdir() for path in ("rkt/status", "rkt/env", "opt/stage2"))


def test_absolute_links_become_relative_and_none_leaves(bench: Bench) -> None:
    add_tool(bench.source)
    recipe = bench.recipe(PLAIN)
    link = bench.source / "link"
    link.symlink_to("/opt/tool")
    bench.build(recipe, "--source", str(bench.source))
    assert bench.members()["rootfs/opt/link"].linkname == "tool"
    for target, said in (("../../etc/passwd", "leads out of the image, to ../../etc/passwd"), ("none", "leads to none, which is not in")):
        link.unlink()
        link.symlink_to(target)
        assert f"the link /opt/link {said}" in bench.fail(recipe, "--source", str(bench.source))


def test_links_of_the_source_never_lead_to_the_hosts_files(bench: Bench) -> None:
    (bench.source / "config").symlink_to("/etc")
    recipe = bench.recipe('[image]\nname = "x"\nversion = "1"\n[source]\nkind = "directory"\n[[program]]\npath = "/config/os-release"\n')
    assert "program /config/os-release" in bench.fail(recipe, "--source", str(bench.source))
    kept = bench.recipe('[image]\nname = "x"\nversion = "1"\n[source]\nkind = "directory"\n[keep]\nfiles = ["/config/os-release"]\n')
    assert "nothing in the source matches /config/os-release" in bench.fail(kept, "--source", str(bench.source))


def test_what_the_source_does_not_have(bench: Bench) -> None:
    (bench.source / "usr/libexec").mkdir(parents=True)
    add_tool(bench.source / "usr/libexec")
    recipe = '[image]\nname = "x"\nversion = "1"\n[source]\nkind = "directory"\n'
    program = recipe + '[[program]]\npath = "/usr/bin/tool"\n'
    said = bench.fail(bench.recipe(program), "--source", str(bench.source))
    assert "program /usr/bin/tool" in said
    assert "the source has /usr/libexec/tool" in said
    assert "no directory /none" in bench.fail(
        bench.recipe(recipe + '[[tree]]\nfrom = "/none"\npath = "/x"\n'), "--source", str(bench.source)
    )
    assert "matches /man/*" in bench.fail(bench.recipe(recipe + '[keep]\nfiles = ["/man/*"]\n'), "--source", str(bench.source))
    bench.build(bench.recipe(program + 'optional = true\n[[file]]\npath = "/x"\ntext = "x"\n'), "--source", str(bench.source))


def test_things_no_image_can_hold(bench: Bench) -> None:
    os.mkfifo(bench.source / "pipe")
    assert "/pipe in the source is no file" in bench.fail(bench.recipe(PLAIN), "--source", str(bench.source))


def test_two_things_at_one_path(bench: Bench) -> None:
    add_tool(bench.source)
    said = bench.fail(bench.recipe(PLAIN + '[[file]]\npath = "/opt/tool"\ntext = "x"\n'), "--source", str(bench.source))
    assert "two different files at /opt/tool" in said
    said = bench.fail(bench.recipe(PLAIN + '[[file]]\npath = "/opt/tool/x"\ntext = "x"\n'), "--source", str(bench.source))
    assert "/opt/tool/x cannot be put into the image" in said


def test_wrong_sources_and_outputs(bench: Bench) -> None:
    recipe = bench.recipe(PLAIN)
    assert "--source PATH" in bench.fail(recipe)
    assert "source /none is not a directory" in bench.fail(recipe, "--source", "/none")
    assert "temporary directory" in bench.fail(recipe, "--source", str(bench.source), TMPDIR="/none")
    for output, said in (("/none/image.aci", "cannot write /none/image.aci: No such file"), (str(bench.out), "is a directory")):
        done = bench.run(recipe, "--source", str(bench.source), "--output", output)
        assert done.returncode == 254
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@needs_compiler
def test_a_program_brings_its_libraries(bench: Bench) -> None:
    root = make_root(bench.source / "root")
    own = make_library(root / LIBRARIES / "libown.so.1", function="own")
    make_program(root / "usr/bin/app", calls="own", flags=linked(own))
    recipe = bench.recipe('[image]\nname = "x"\nversion = "1"\n[source]\nkind = "directory"\n[[program]]\npath = "/usr/bin/app"\n')
    bench.build(recipe, "--source", str(root))
    first = bench.image.read_bytes()
    digest = next(item["value"] for item in json.loads(bench.read("manifest"))["annotations"] if item["name"] == "skim/libraries")
    assert f"rootfs/usr/lib/skim/{digest}/libown.so.1" in bench.members()
    bench.build(recipe, "--source", str(root))
    assert bench.image.read_bytes() == first
    own.unlink()
    assert "/usr/bin/app needs the library libown.so.1" in bench.fail(recipe, "--source", str(root))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(bench: Bench, number: signal.Signals) -> None:
    """A tar that never ends is on PATH."""
    tools = bench.path / "tools"
    tools.mkdir()
    (tools / "tar").write_text(f"#!/bin/sh\ntouch {bench.path}/started\nexec sleep 60\n")
    (tools / "tar").chmod(0o755)
    tarball = bench.path / "source.tar"
    tarball.touch()
    environment = bench.environment | {"PATH": f"{tools}:{os.environ['PATH']}"}
    command = bench.command(bench.recipe(PLAIN, "tarball"), "--source", str(tarball))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not (bench.path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert not list(bench.temporary.iterdir())
    assert not list(bench.out.iterdir())


def test_help_teaches(bench: Bench) -> None:
    done = subprocess.run([sys.executable, "-m", "aci_build", "--help"], env=bench.environment, capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("RECIPE", "--suite", "--source", "examples:", "254"):
        assert word in done.stdout
