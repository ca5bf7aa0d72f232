"""Our archive writing against `actool build`: the same tree and manifest, whole processes in turn.

`python -m bench.aci LAYOUT FILE` is our side: it writes the image of a layout (`manifest` and `rootfs` in one directory).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appc.archive import write_archive
from appc.image import parse_image_manifest
from bench.result import Result
from linux.process import run as run_program

PAIRS = 10


def run(image: Path, progress: Callable[[str], None], pairs: int = PAIRS) -> list[Result]:
    """Ratios of time and of size for the tree of `image`; a first pair, not counted, brings the tree into memory for both."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    times, sizes = [], []
    with tempfile.TemporaryDirectory(dir=image.parent, prefix="bench-aci-") as scratch:
        layout = os.path.join(scratch, "layout")
        os.mkdir(layout)
        progress(f"unpacking {image.name}")
        run_program(["tar", "--extract", "--file", os.fspath(image), "--directory", layout, "--no-same-owner", "--preserve-permissions"])
        ours, peers = os.path.join(scratch, "ours.aci"), os.path.join(scratch, "peers.aci")
        for number in range(pairs + 1):
            our_time = _seconds([sys.executable, "-m", "bench.aci", layout, ours], environment)
            peer_time = _seconds(["actool", "build", "--overwrite", layout, peers], environment)
            progress(f"{image.name}: ours {our_time:.2f} s, actool {peer_time:.2f} s" + ("" if number else " (to warm up)"))
            if number:
                times.append(our_time / peer_time)
                sizes.append(os.path.getsize(ours) / os.path.getsize(peers))
        for file in (ours, peers):
            run_program(["actool", "validate", file])
    peer = "actool build, same tree"
    return [
        Result("aci-build", times, 0.33, peer, f"write_archive of {image.name}'s tree"),
        Result("aci-size", sizes, 1.0, peer, f"size of {image.name}"),
    ]


def _seconds(argv: list[str], environment: dict[str, str]) -> float:
    before = time.perf_counter()
    run_program(argv, capture=True, env=environment)
    return time.perf_counter() - before


def write(layout: str, out: str) -> None:
    """Our side of a pair."""
    manifest = parse_image_manifest(Path(layout, "manifest").read_bytes())
    write_archive(os.path.join(layout, "rootfs"), manifest, out, owner=(0, 0))


if __name__ == "__main__":
    write(*sys.argv[1:])
