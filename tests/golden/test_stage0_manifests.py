"""Pod manifests that `prepare` generates. The texts are a real rkt 1.30's for the same image and arguments (the image's ID made zeros)."""

from __future__ import annotations

from pathlib import Path

import pytest

from appc.image import parse_image_manifest
from appc.pod import pod_manifest_json
from golden.golden import assert_golden
from stage0.flags import FlagSet
from stage0.manifest import Caller, Image, generate
from stage0.pod_flags import PodFlags

CASES = Path(__file__).parent / "stage0"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_manifest(case: str) -> None:
    directory = CASES / case
    flags = FlagSet(interspersed=False)
    pod_flags = PodFlags()
    pod_flags.declare_preparation(flags)
    request = pod_flags.request(flags, flags.parse((directory / "arguments").read_text().splitlines()))
    image = Image(key="sha512-" + "0" * 64, manifest=parse_image_manifest((directory / "image.json").read_text()))
    manifest = generate(request, [image] * len(request.apps), Caller(uid=0, gid=0, environment={}))
    assert_golden(directory / "pod.json", pod_manifest_json(manifest) + "\n")
