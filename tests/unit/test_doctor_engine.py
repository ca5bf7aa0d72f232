"""`skim doctor`: the installed engine, pods that are left, and the table."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from doctor_trees import by_id, mountinfo, probe
from engine import __main__ as command
from engine.doctor import installed, pods, rendering
from engine.doctor.finding import Check, error, is_ok, note, ok, warning
from engine.doctor.kernel_needs import OPTIONAL, REQUIRED
from engine.layout import Layout
from engine.mount_units import binds
from engine.record import Engine, Image, engine_text


def image(role: str) -> Image:
    return Image(id=f"sha512-{role * 64}", name=f"skim/{role}", version="26.1.5", tree=f"deps-sha512-{role}", libraries=role * 32)


ENGINE = Engine(stage1=image("1"), containerd=image("c"), docker=image("d"))
POD = "11111111-1111-4111-8111-111111111111"
CONF = "STAGE1_IMAGE=/i/s.aci\nCONTAINERD_IMAGE=/i/c.aci\nDOCKER_IMAGE=/i/d.aci\n"


def host(root: Path) -> dict[str, str | bytes]:
    """A host with the engine set up; the mounts' directories are links to what they show."""
    files: dict[str, str | bytes] = {"/var/lib/skim/engine.env": engine_text(ENGINE), "/etc/skim/docker.conf": CONF}
    files |= {f"/i/{name}.aci": "x" for name in "scd"}
    for each in ENGINE:
        files[f"/var/lib/rkt/cas/blob/sha512/{each.id[7:9]}/{each.id}"] = "x"
        files[f"/var/lib/rkt/cas/tree/{each.tree}/rendered"] = ""
        files[f"/var/lib/rkt/cas/tree/{each.tree}/rootfs/usr/bin/docker"] = "x"
        files[f"/var/lib/rkt/cas/tree/{each.tree}/rootfs/usr/lib/skim/{each.libraries}/"] = ""
    shown = binds(ENGINE).values()
    files |= {bind.where: f"->{root}{bind.what}" for bind in shown}
    files["/run/skim/docker"] = "->engine"
    files["/proc/self/mountinfo"] = mountinfo("/ ext4", *(f"{bind.where} ext4" for bind in shown))
    return files


def look(root: Path, *, set_up: bool = True, running: bool = False) -> dict[str, Check]:
    return by_id(installed.checks(installed.gather(probe(root)), set_up=set_up, running=running))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    probe(tmp_path, host(tmp_path))
    return tmp_path


def test_an_engine_that_is_whole(root: Path) -> None:
    found = look(root)
    assert {name: check.status for name, check in found.items()} == {
        "engine.record": "ok",
        "engine.images": "ok",
        "engine.mounts": "ok",
        "engine.signatures": "note",
    }


def test_before_and_after_setup_no_engine_is_not_the_same(tmp_path: Path) -> None:
    assert look(tmp_path, set_up=False)["engine.record"].status == "warning"
    assert look(tmp_path, set_up=True)["engine.record"].status == "error"


def test_images_that_are_gone(root: Path) -> None:
    (root / f"var/lib/rkt/cas/blob/sha512/dd/{ENGINE.docker.id}").unlink()
    (root / f"var/lib/rkt/cas/tree/{ENGINE.containerd.tree}/rendered").unlink()
    found = look(root)["engine.images"]
    assert found.status == "error" and "not in the store: skim/d; not unpacked: skim/c" in found.what


def test_mounts_that_are_down_or_show_something_else(root: Path) -> None:
    (root / "run/skim/engine/docker").unlink()
    (root / "run/skim/engine/docker").symlink_to("/")
    assert "elsewhere" in look(root)["engine.mounts"].what
    (root / "proc/self/mountinfo").write_text(mountinfo("/ ext4"))
    assert "not mounted: /run/skim/engine/containerd" in look(root)["engine.mounts"].what


def test_the_client_and_the_configuration(root: Path) -> None:
    (root / "run/skim/docker").unlink()
    (root / "i/d.aci").unlink()
    found = look(root)
    assert found["engine.client"].status == "error"
    assert found["engine.configuration"].status == "warning" and "/i/d.aci" in found["engine.configuration"].what
    (root / "etc/skim/docker.conf").write_text("KERNEL=/x\n")
    assert "line 1: KERNEL" in look(root)["engine.configuration"].what


def test_a_pod_that_runs_a_former_engine(root: Path) -> None:
    images = [ENGINE.containerd.id, ENGINE.docker.id]
    files = {"/var/lib/skim/pod-uuid": f"{POD}\n"}
    manifest = f"/var/lib/rkt/pods/run/{POD}/pod"
    probe(root, files | {manifest: json.dumps({"apps": [{"image": {"id": key}} for key in images]})})
    assert look(root, running=True)["engine.running"].status == "ok"
    probe(root, {manifest: json.dumps({"apps": [{"image": {"id": key}} for key in (images[0], "sha512-" + "e" * 64)]})})
    assert look(root, running=True)["engine.running"].status == "note"


def test_programs_that_fail() -> None:
    facts = installed.Installed(ENGINE, "", "", programs=(("docker", 127, "cannot be run"),), client=True)
    assert by_id(installed.checks(facts, set_up=True, running=False))["engine.docker"].status == "error"


def test_what_only_root_sees() -> None:
    facts = installed.Installed(ENGINE, "", "", images=(installed.Stored("skim/d", None, None),), client=True)
    assert "not looked at" in by_id(installed.checks(facts, set_up=True, running=False))["engine.images"].what


def test_pods_that_are_left(tmp_path: Path) -> None:
    other, running = POD.replace("1", "2"), POD.replace("1", "3")
    docker = json.dumps({"annotations": [{"name": "skim/pod-name", "value": "docker"}]})
    files = {f"/var/lib/rkt/pods/run/{POD}/pod": docker, f"/var/lib/rkt/pods/prepare/{other}/": "", f"/var/lib/rkt/pods/run/{running}/": ""}
    files |= {"/var/lib/rkt/pods/run/no-pod/": ""}
    host = probe(tmp_path, files)
    descriptor = os.open(tmp_path / f"var/lib/rkt/pods/run/{running}", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        found = by_id(pods.checks(pods.gather(host)))
    finally:
        os.close(descriptor)
    assert found["pods.docker"].status == "warning" and f"{POD} (exited)" in found["pods.docker"].what
    assert found["pods.left"].status == "note" and f"{other} (aborted prepare)" in found["pods.left"].what
    assert running not in found["pods.docker"].what + found["pods.left"].what


def test_no_pods_and_no_directory_is_made(tmp_path: Path) -> None:
    assert by_id(pods.checks(pods.gather(probe(tmp_path))))["pods.left"].status == "ok"
    assert list(tmp_path.iterdir()) == []


FOUND = [
    ok("kernel.a", "fine"),
    note("kernel.b", "odd\x1b[31m\nline", "look"),
    warning("pods.c", "hm", "mend"),
    error("host.d", "bad", "do it"),
]


def test_the_table() -> None:
    lines = rendering.text(FOUND, colour=False).splitlines()
    assert lines == [
        "The kernel",
        "  ok       fine",
        "  note     odd\\x1b[31m\\nline",
        "           do: look",
        "",
        "Pods",
        "  warning  hm",
        "           do: mend",
        "",
        "The host",
        "  error    bad",
        "           do: do it",
        "",
        "Docker does not work as it should: 4 checks, 1 error, 1 warning, 1 note",
    ]
    assert rendering.text(FOUND[:3], colour=False).endswith("no errors: 3 checks, 1 warning, 1 note\n")
    assert (
        rendering.text(FOUND[:1], colour=True) == "\x1b[1mThe kernel\x1b[0m\n  \x1b[32mok      \x1b[0m fine\n\nnothing is wrong: 1 check\n"
    )


def test_json() -> None:
    document = json.loads(rendering.as_json(FOUND))
    assert document["ok"] is False and document["counts"] == {"ok": 1, "note": 1, "warning": 1, "error": 1}
    assert document["checks"][0] == {"id": "kernel.a", "group": "kernel", "status": "ok", "what": "fine", "do": ""}
    assert is_ok(FOUND[:3])


def test_the_command_on_an_empty_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("engine.layout.installed_layout", lambda: Layout(root=str(tmp_path)))
    assert command.main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    by_id([Check(**check) for check in document["checks"]])
    assert "systemd does not run this host (it is not PID 1)" in [check["what"] for check in document["checks"]]
    assert list(tmp_path.iterdir()) == []
    assert command.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("Docker does not work as it should: ")


def test_every_check_is_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    sources = "".join(path.read_text() for path in (root / "engine/doctor").glob("*.py"))
    names = set(re.findall(rf'"((?:{"|".join(rendering.TITLES)})\.[a-z0-9-]+)"', sources))
    names |= {f"kernel.{feature.id}" for feature in REQUIRED + OPTIONAL}
    assert len(names) > 60
    page = (root / "docs/doctor.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in page) == []
