"""Packages out of a small signed archive made here, with the real apt: closure, signatures, cache, and what the errors name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from small_programs import linked, make_library, make_program, make_root, needs_compiler

ROOT = Path(__file__).parents[2]
NEEDED = ("apt-get", "dpkg-deb", "gpg", "gpgconf", "gpgv")
MISSING = [program for program in NEEDED if shutil.which(program) is None]

pytestmark = [pytest.mark.slow, needs_compiler, pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")]

RECIPE = """
[image]
name = "example.com/app"
version = { package = "app" }
[source]
kind = "debian"
packages = ["app"]
optional-packages = ["extra"]
[[program]]
path = "/usr/bin/app"
"""


class Archive:
    """A package archive with one suite, `test`, and a key that signs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pool = path / "pool"
        self.dist = path / "dists/test"
        self.keyring = path / "keyring.gpg"
        self.home = path / "gnupg"

    def create(self) -> None:
        self.pool.mkdir(parents=True)
        self.home.mkdir(mode=0o700)
        self._gpg("--quick-gen-key", "--passphrase", "", "archive@example.com", "ed25519", "sign", "never")
        self._gpg("--output", str(self.keyring), "--export")

    def add(self, name: str, tree: Path, *, version: str = "1:1.2-3", depends: str = "", licence: bool = True) -> None:
        """Packs `tree` as the package `name`."""
        if licence:
            documents = tree / f"usr/share/doc/{name}"
            documents.mkdir(parents=True, exist_ok=True)
            (documents / "copyright").write_text(f"the licence of {name}\n")
        (tree / "DEBIAN").mkdir()
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\nDescription: for tests\n"
        )
        (tree / "DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, self.pool / f"{name}.deb"], check=True, capture_output=True)

    def publish(self) -> None:
        """Writes and signs the suite's index."""
        stanzas = []
        for file in sorted(self.pool.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "--field", file], check=True, capture_output=True, text=True).stdout
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            stanzas.append(f"{control}Filename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
        lines = []
        for architecture in ("all", subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()):
            packages = self.dist / f"main/binary-{architecture}/Packages"
            packages.parent.mkdir(parents=True, exist_ok=True)
            packages.write_text("\n".join(stanzas) if architecture != "all" else "")
            content = packages.read_bytes()
            lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-{architecture}/Packages\n")
        release = "Suite: test\nCodename: test\nComponents: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        (self.dist / "Release").write_text(release + "".join(lines))
        self._gpg("--yes", "--clearsign", "--output", str(self.dist / "InRelease"), str(self.dist / "Release"))

    def _gpg(self, *arguments: str) -> None:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package app needs libown1, libown1 needs libc6; the library comes below /lib, the C library below /usr/lib."""
    path = tmp_path_factory.mktemp("archive")
    archive = Archive(path / "archive")
    archive.create()
    root = make_root(path / "libc6")
    (root / "lib").unlink()  # as the package has it
    app, own = path / "app", path / "libown1"
    library = make_library(own / "lib/x86_64-linux-gnu/libown.so.1", function="own")
    make_program(app / "usr/bin/app", calls="own", flags=linked(library))
    archive.add("app", app, depends="libown1 (>= 1)")
    archive.add("libown1", own, version="2", depends="libc6")
    archive.add("libc6", root, version="2.99-1")
    archive.add("unrelated", path / "unrelated")
    archive.publish()
    return archive.path


@pytest.fixture
def archive(template: Path, tmp_path: Path) -> Archive:
    archive = Archive(tmp_path / "archive")
    shutil.copytree(template, archive.path, ignore=shutil.ignore_patterns("S.*"))
    return archive


def build(archive: Archive, tmp_path: Path, recipe: str = RECIPE, *options: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "recipe.toml"
    file.write_text(recipe)
    (tmp_path / "temporary").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'aci-build'}",
        "SKIM_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = [sys.executable, "-m", "aci_build", str(file), "--suite", "test", "--mirror", f"file:{archive.path}"]
    command += ["--keyring", str(archive.keyring), "--output", str(tmp_path / "app.aci"), "--verbose", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "temporary").iterdir())
    return done


def failure(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 254, done.stderr
    return done.stderr


def test_a_package_with_all_it_needs(archive: Archive, tmp_path: Path) -> None:
    done = build(archive, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test has no extra; it is optional" in done.stderr
    with tarfile.open(tmp_path / "app.aci") as image:
        names = image.getnames()
        manifest = json.loads(image.extractfile("manifest").read())  # type: ignore[union-attr]
        record = json.loads(image.extractfile("rootfs/usr/share/skim/sources.json").read())  # type: ignore[union-attr]
    assert manifest["labels"][0] == {"name": "version", "value": "1.2-3"}
    assert [package["package"] for package in record["packages"]] == ["app", "libc6", "libown1"]
    assert record["packages"][0] == {
        "package": "app",
        "version": "1:1.2-3",
        "architecture": "all",
        "sha256": hashlib.sha256((archive.pool / "app.deb").read_bytes()).hexdigest(),
    }
    assert record["source"] == {"kind": "debian", "suite": "test"}
    assert {"name": "libown.so.1", "package": "libown1"}.items() <= record["libraries"]["files"][-1].items()
    assert {f"rootfs/usr/share/doc/{name}/copyright" for name in ("app", "libown1", "libc6")} <= set(names)
    assert not any("unrelated" in name for name in names)


def test_offline_and_a_damaged_cache(archive: Archive, tmp_path: Path) -> None:
    assert "build once without --offline" in failure(build(archive, tmp_path, RECIPE, "--offline"))
    assert build(archive, tmp_path).returncode == 0
    first = (tmp_path / "app.aci").read_bytes()
    assert build(archive, tmp_path, RECIPE, "--offline").returncode == 0
    assert (tmp_path / "app.aci").read_bytes() == first
    for file in (tmp_path / "cache/debs").iterdir():
        file.write_bytes(b"damaged")
    assert "not in the cache: app, libc6, libown1" in failure(build(archive, tmp_path, RECIPE, "--offline"))
    assert build(archive, tmp_path).returncode == 0
    assert (tmp_path / "app.aci").read_bytes() == first


def test_signatures_count(archive: Archive, tmp_path: Path) -> None:
    stranger = Archive(tmp_path / "stranger")
    stranger.create()
    archive.keyring = stranger.keyring
    assert "cannot fetch the package lists of suite test" in failure(build(archive, tmp_path))
    archive.keyring = tmp_path / "none.gpg"
    assert "none.gpg does not exist" in failure(build(archive, tmp_path))


def test_what_was_changed_after_signing(archive: Archive, tmp_path: Path) -> None:
    package = archive.pool / "libown1.deb"
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    assert "libown1" in failure(build(archive, tmp_path))
    index = next(archive.dist.glob("main/binary-*[!l]/Packages"))
    index.write_text(index.read_text().replace("1.2-3", "1.2-4"))
    shutil.rmtree(tmp_path / "cache")
    assert "cannot fetch the package lists of suite test" in failure(build(archive, tmp_path))


def test_packages_and_programs_that_are_not_there(archive: Archive, tmp_path: Path) -> None:
    assert "suite test has no package gone" in failure(build(archive, tmp_path, RECIPE.replace('["app"]', '["app", "gone"]')))
    assert "program /usr/sbin/app" in failure(build(archive, tmp_path, RECIPE.replace("/usr/bin", "/usr/sbin")))
    other = RECIPE.replace('version = { package = "app" }', 'version = { package = "unrelated" }')
    assert "unrelated, which is not among the packages" in failure(build(archive, tmp_path, other))


def test_a_package_that_needs_what_the_suite_lacks(archive: Archive, tmp_path: Path) -> None:
    archive.add("broken", tmp_path / "broken", depends="nowhere")
    archive.publish()
    said = failure(build(archive, tmp_path, RECIPE.replace('["app"]', '["app", "broken"]')))
    assert "cannot satisfy what app, broken depend on" in said


def test_a_package_without_a_licence(archive: Archive, tmp_path: Path) -> None:
    tree = tmp_path / "bare"
    make_program(tree / "usr/bin/bare", flags=("-static",))
    archive.add("bare", tree, licence=False)
    archive.publish()
    recipe = RECIPE.replace('["app"]', '["app", "bare"]') + '[[program]]\npath = "/usr/bin/bare"\n'
    assert "package bare has no licence at /usr/share/doc/bare/copyright" in failure(build(archive, tmp_path, recipe))
