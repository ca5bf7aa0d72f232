"""`skim`: its texts and files: the record of the engine, the configuration, mount units, the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from appc.errors import UserError
from engine import __main__ as command
from engine.configuration import parse_configuration
from engine.mount_units import mount_units, unit_name
from engine.record import Engine, Image, engine_text, parse_engine
from unit.fake_host import DIGEST

ROOT = Path(__file__).parents[2]


def image(role: str, libraries: str = "") -> Image:
    return Image(
        id=f"sha512-{role:0<64}", name=f"skim/{role}", version="26.1.5+dfsg1-9+b4", tree=f"deps-sha512-{role}", libraries=libraries
    )


ENGINE = Engine(stage1=image("1"), containerd=image("c", DIGEST), docker=image("d", "f" * 32))


def test_engine_record_survives_the_shell() -> None:
    odd = ENGINE._replace(docker=ENGINE.docker._replace(version="1'; touch /x; '"))
    assert parse_engine(engine_text(odd)) == odd
    done = subprocess.run(["sh", "-c", engine_text(odd) + 'printf %s "$DOCKER_VERSION"'], capture_output=True, text=True, check=True)
    assert done.stdout == odd.docker.version


@pytest.mark.parametrize("text", ["", "DOCKER_ID=x\n", "DOCKER_ID='x\n", "nonsense\n"])
def test_damaged_record_says_what_to_do(text: str) -> None:
    with pytest.raises(UserError, match="skim setup"):
        parse_engine(text)


def test_configuration_names_every_problem_with_its_line() -> None:
    with pytest.raises(UserError) as caught:
        parse_configuration("STAGE1_IMAGE=relative.aci\n# fine\nKERNEL=/x\nrm -rf\nDOCKER_IMAGE='/a\n", "docker.conf")
    assert [part.partition(":")[0].strip() for part in caught.value.message.removeprefix("docker.conf: ").split("; ")] == [
        "line 1",
        "line 3",
        "line 4",
        "line 5",
    ]


def test_configuration_as_shipped() -> None:
    text = (ROOT / "host-units/docker.conf").read_text().replace("@PREFIX@", "/opt/skim")
    assert parse_configuration(text, "x").docker == "/opt/skim/images/docker.aci"
    with pytest.raises(UserError, match="CONTAINERD_IMAGE is missing"):
        parse_configuration("STAGE1_IMAGE=/a\nDOCKER_IMAGE=/b\n", "x")


def test_mount_units_share_libraries_of_the_same_digest() -> None:
    assert len(mount_units(ENGINE)) == 4
    shared = ENGINE._replace(docker=ENGINE.docker._replace(libraries=DIGEST))
    assert sorted(mount_units(shared)) == [
        "run-skim-engine-containerd.mount",
        "run-skim-engine-docker.mount",
        f"run-skim-lib-{DIGEST}.mount",
    ]
    bare = ENGINE._replace(docker=image("d"), containerd=image("c"))
    assert not [name for name in mount_units(bare) if "lib" in name]


def test_mount_units_pass_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, text in mount_units(ENGINE).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_name_as_systemd_escapes_it() -> None:
    if shutil.which("systemd-escape") is None:
        pytest.skip("systemd-escape is not installed")
    for path in ("/run/skim/engine/docker", "/run/skim/lib/a-b"):
        done = subprocess.run(["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True)
        assert unit_name(path) == done.stdout.strip()


def test_front_door(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"skim {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"
    assert command.main(["--help"]) == 0
    assert "systemctl start docker" in capsys.readouterr().out
    for words in ([], ["set-up"], ["setup", "now"]):
        with pytest.raises(UserError, match="skim --help"):
            command.main(words)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "engine", "upgrade"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 254
    assert done.stderr == "skim: cannot do `upgrade` (`skim --help` lists what can be done)\n"
