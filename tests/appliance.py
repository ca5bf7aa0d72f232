"""Putting the appliance onto a host of the tests, as a packager does: files into its root before it boots."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = Path(os.environ.get("SKIM_TEST_BUILD") or ROOT / "build")  # where what is tested was built


def install(root: Path, *, engine: Path = BUILD) -> None:
    """`engine` is the directory of containerd.aci and docker.aci. `skim setup`, on the host, does the rest."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "files.table"
        lines = (ROOT / "host-units/files.table").read_text()
        for name in ("containerd", "docker"):
            lines = lines.replace(f"build/{name}.aci ", f"{engine / name}.aci ")
        table.write_text(lines.replace(" build/", f" {BUILD}/"))
        environment = {**os.environ, "DESTDIR": str(root), "TABLE": str(table)}
        subprocess.run(["sh", "host-units/install.sh", "install"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def install_without_engine(root: Path) -> None:
    """What it takes to run any other pod: rkt and the stage1."""
    shutil.copytree(BUILD / "frozen/host", root / "opt/skim/lib/skim", symlinks=True)
    (root / "opt/skim/images").mkdir()
    shutil.copy(BUILD / "stage1-skim.aci", root / "opt/skim/images")
    (root / "opt/skim/bin").mkdir()
    (root / "opt/skim/bin/rkt").symlink_to("../lib/skim/rkt")


def install_with_images(root: Path) -> None:
    """The same, with the images in the host's store already: an emulated machine would take minutes to unpack them."""
    install(root)
    images = sorted((root / "opt/skim/images").glob("*.aci"))
    rkt = [f"{BUILD}/frozen/host/rkt", f"--dir={root}/var/lib/rkt", "--insecure-options=image"]
    subprocess.run([*rkt, "fetch", *images], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
