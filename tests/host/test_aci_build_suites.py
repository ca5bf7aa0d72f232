"""The images of the docker pod out of Debian's own packages: they pass actool, and their programs run here with their own libraries."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

import appliance
from aci_build import __main__ as command
from aci_build import relocation
from small_programs import needs_actool

RECIPES = Path(__file__).parents[2] / "aci-build/recipes"
PLUGINS = "usr/libexec/docker/cli-plugins"

VERSIONS = {
    ("containerd", "trixie"): {
        "usr/bin/containerd": ("--version", "1.7"),
        "usr/bin/containerd-shim-runc-v2": ("-v", "containerd-shim-runc-v2"),
        "usr/bin/ctr": ("--version", "1.7"),
        "usr/sbin/runc": ("--version", "runc version 1.1"),
    },
    ("docker", "trixie"): {
        "usr/sbin/dockerd": ("--version", "26.1"),
        "usr/bin/docker": ("--version", "26.1"),
        "usr/bin/docker-init": ("--version", "tini version"),
        f"{PLUGINS}/docker-compose": ("version", "v"),
        f"{PLUGINS}/docker-buildx": ("version", "buildx"),
    },
    ("containerd", "bookworm"): {
        "usr/bin/containerd": ("--version", "1.6"),
        "usr/sbin/runc": ("--version", "runc version 1.1"),
    },
    ("docker", "bookworm"): {
        "usr/sbin/dockerd": ("--version", "20.10"),
        "usr/bin/docker": ("--version", "20.10"),
        "usr/bin/docker-init": ("--version", "tini version"),
    },
}


@needs_actool
@pytest.mark.parametrize("name", ["stage1-skim", "containerd", "docker"])
def test_what_is_installed_is_valid(name: str) -> None:
    subprocess.run(["actool", "validate", appliance.BUILD / f"{name}.aci"], check=True)


@needs_actool
@pytest.mark.network
@pytest.mark.parametrize(("name", "suite"), VERSIONS)
def test_debians_docker(name: str, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_directory = tmp_path / "run"
    monkeypatch.setattr(relocation, "RUN_DIRECTORY", str(run_directory))
    image = tmp_path / f"{name}.aci"
    assert command.main([str(RECIPES / f"{name}.toml"), "--suite", suite, "--output", str(image)]) == 0
    subprocess.run(["actool", "validate", image], check=True)
    with tarfile.open(image) as archive:
        archive.extractall(tmp_path)
    rootfs = tmp_path / "rootfs"
    manifest = json.loads((tmp_path / "manifest").read_text())
    annotations = {item["name"]: item["value"] for item in manifest["annotations"]}
    digest = annotations["skim/libraries"]
    run_directory.mkdir()
    (run_directory / digest).symlink_to(rootfs / "usr/lib/skim" / digest)
    for program, (option, expected) in VERSIONS[name, suite].items():
        done = subprocess.run([rootfs / program, option], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout + done.stderr
    # What the loader maps of the largest one comes from the image alone.
    listed = subprocess.run(
        [run_directory / digest / "ld-linux-x86-64.so.2", "--list", rootfs / next(iter(VERSIONS[name, suite]))],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in listed.stdout.splitlines():
        assert "vdso" in line or str(run_directory) in line, line
    record = json.loads((rootfs / annotations["skim/sources"].lstrip("/")).read_text())
    for package in record["packages"]:
        assert (rootfs / "usr/share/doc" / package["package"] / "copyright").is_file()
