"""`make install DESTDIR=` and `make uninstall`: what the table says arrives, and nothing stays."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = "/run/skim/docker/docker/usr/bin/docker"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree in which everything has been built."""
    top = tmp_path / "source"
    for name in ("host-units", "docker-wrapper"):
        shutil.copytree(ROOT / name, top / name)
    frozen = top / "build/frozen/host"
    (frozen / "_internal").mkdir(parents=True)
    for name in ("rkt", "skim", "_internal/libpython.so"):
        (frozen / name).write_text(name)
    for name in ("stage1-skim", "containerd", "docker"):
        (top / f"build/{name}.aci").write_text(name)
    return top


def run(source: Path, verb: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(["sh", "host-units/install.sh", verb], cwd=source, env=environment, capture_output=True, text=True, check=False)


def snapshot(top: Path) -> dict[str, str]:
    """Everything below `top`: kind, mode, and content or target."""
    found = {}
    for path in sorted(top.rglob("*")):
        mode = oct(path.lstat().st_mode)
        if path.is_symlink():
            found[str(path.relative_to(top))] = f"{mode} {os.readlink(path)}"
        else:
            found[str(path.relative_to(top))] = mode if path.is_dir() else f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def test_install_and_uninstall_leave_the_tree_as_it_was(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for directory in ("usr/local/bin", "etc/modules-load.d", "etc/systemd/system"):
        (target / directory).mkdir(parents=True)
    (target / "usr/local/bin/docker").write_text("somebody's own")
    (target / "etc/systemd/system/docker.service").symlink_to("/dev/null")
    before = snapshot(target)

    for _ in range(2):  # a second install changes nothing
        done = run(source, "install", DESTDIR=str(target))
        assert done.returncode == 0, done.stderr
    assert os.readlink(target / "usr/local/bin/docker") == CLIENT
    assert os.readlink(target / "opt/skim/bin/rkt") == "../lib/skim/rkt"
    assert (target / "opt/skim/lib/skim/_internal/libpython.so").exists()
    assert "ExecStart=/opt/skim/bin/dockerd -H fd://" in (target / "opt/skim/lib/systemd/system/docker.service").read_text()
    # Files alone change no Docker that is here already: that is the work of `skim setup`.
    assert os.readlink(target / "etc/systemd/system/docker.service") == "/dev/null"
    assert not (target / "etc/systemd/system.attached").exists()
    assert (target / "opt/skim/bin/dockerd").stat().st_mode & 0o777 == 0o755

    done = run(source, "uninstall", DESTDIR=str(target))
    assert done.returncode == 0, done.stderr
    assert snapshot(target) == before


COUNTING = """#!/bin/sh
# One of the programs that change files: at its turn the installation is killed, before it has done its work or after.
turn=$(($(cat "$TURNS") - 1))
echo "$turn" >"$TURNS"
[ "$turn" != 0 ] || [ "$WHEN" != before ] || { kill -9 "$MAIN" "$PPID"; exit 1; }
PATH=$REAL_PATH ${0##*/} "$@" || exit
[ "$turn" != 0 ] || kill -9 "$MAIN" "$PPID"
"""
SMALL_TABLE = """\
tree   build/frozen/host           @PREFIX@/lib/skim    0755
text   docker-wrapper/no-engine    @PREFIX@/libexec/no-engine 0755
config host-units/docker.conf      /etc/skim/docker.conf 0644
link   /run/skim/docker/docker/usr/bin/docker @BINDIR@/docker -
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_killed_anywhere_it_is_finished_by_the_next(verb: str, when: str, source: Path, tmp_path: Path) -> None:
    counting = tmp_path / "counting"
    counting.mkdir()
    for program in ("mkdir", "mv", "rm", "rmdir", "ln", "cp", "install", "sed", "chmod"):
        (counting / program).write_text(COUNTING)
        (counting / program).chmod(0o755)
    table, turns = tmp_path / "table", tmp_path / "turns"
    table.write_text(SMALL_TABLE)
    killed = True
    turn = 0
    while killed:
        turn += 1
        target = tmp_path / f"target-{turn}"
        (target / "usr/local/bin").mkdir(parents=True)
        (target / "usr/local/bin/docker").write_text("somebody's own")
        before = snapshot(target)
        variables = {"DESTDIR": str(target), "TABLE": str(table)}
        if verb == "uninstall":
            assert run(source, "install", **variables).returncode == 0
        turns.write_text(str(turn))
        path = f"{counting}:{os.environ['PATH']}"
        environment = {"PATH": path, "REAL_PATH": os.environ["PATH"], "TURNS": str(turns), "WHEN": when, **variables}
        command = ["sh", "-c", 'MAIN=$$ exec sh host-units/install.sh "$0"', verb]
        killed = subprocess.run(command, cwd=source, env=environment, capture_output=True, check=False).returncode != 0
        if verb == "install":
            assert run(source, "install", **variables).returncode == 0
            assert os.readlink(target / "usr/local/bin/docker") == CLIENT
        done = run(source, "uninstall", **variables)
        assert done.returncode == 0 or (verb == "uninstall" and "nothing of skim is installed" in done.stderr), done.stderr
        left = {path: what for path, what in snapshot(target).items() if path not in before}
        # Once the record is gone nobody can tell whose the empty directories of it are.
        assert set(left) <= ({"opt", "opt/skim", "opt/skim/share"} if done.returncode else set()), f"killed at {turn}"
        assert {path: what for path, what in snapshot(target).items() if path in before} == before, f"killed at {turn}"
    assert turn > 10


@pytest.mark.parametrize("prefix", ["opt/skim", "/opt/my skim", "/opt/a|b", "/opt/../skim", "/opt/skim/"])
def test_a_prefix_that_cannot_be(source: Path, tmp_path: Path, prefix: str) -> None:
    done = run(source, "install", DESTDIR=str(tmp_path / "target"), PREFIX=prefix)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "PREFIX must be" in done.stderr
    assert not (tmp_path / "target").exists()


def test_no_placeholder_is_left(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    assert run(source, "install", DESTDIR=str(target), PREFIX="/srv/skim", BINDIR="/opt/bin").returncode == 0
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != "install.sh":  # which is what replaces them
            assert b"@PREFIX@" not in path.read_bytes(), path
            assert b"/opt/skim" not in path.read_bytes(), path
    assert os.readlink(target / "opt/bin/skim") == "/srv/skim/bin/skim"


def test_every_command_of_the_engine_says_what_to_do_while_there_is_none(source: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0:
        pytest.skip("needs root and systemd-tmpfiles")
    target = tmp_path / "target"
    target.mkdir()
    assert run(source, "install", DESTDIR=str(target), PREFIX="/srv/skim").returncode == 0
    subprocess.run(["systemd-tmpfiles", f"--root={target}", "--create"], check=True)
    assert os.readlink(target / "run/skim/docker") == "engine"
    for name in ("docker", "containerd", "ctr", "runc"):
        client = os.readlink(target / "usr/local/bin" / name)
        beneath = target / client.lstrip("/").replace("run/skim/docker", "run/skim/engine")
        assert os.readlink(beneath) == "/srv/skim/libexec/no-engine"
    assert os.access(target / "srv/skim/libexec/no-engine", os.X_OK)


def test_rkt_of_the_host_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "usr/bin").mkdir(parents=True)
    (target / "usr/bin/rkt").touch()
    done = run(source, "install", DESTDIR=str(target))
    assert "rkt is there already" in done.stdout
    assert not (target / "usr/local/bin/rkt").exists()


def test_changed_configuration_survives(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    run(source, "install", DESTDIR=str(target))
    configuration = target / "etc/skim/docker.conf"
    configuration.write_text("DOCKER_IMAGE=/mine.aci\n")
    run(source, "install", DESTDIR=str(target))
    assert configuration.read_text() == "DOCKER_IMAGE=/mine.aci\n"
    run(source, "uninstall", DESTDIR=str(target))
    assert sorted(snapshot(target)) == ["etc", "etc/skim", "etc/skim/docker.conf"]


def test_what_a_newer_version_has_no_more_goes(source: Path, tmp_path: Path) -> None:
    target, table = tmp_path / "target", tmp_path / "table"
    (target / "usr/local/bin").mkdir(parents=True)
    (target / "usr/local/bin/docker-old").write_text("somebody's own")
    before = snapshot(target)
    table.write_text(
        SMALL_TABLE
        + "link x @BINDIR@/docker-old -\ntext host-units/docker.socket /etc/old.conf 0644\nconfig host-units/docker.conf /etc/c 0644\n"
    )
    run(source, "install", DESTDIR=str(target), TABLE=str(table))
    assert os.readlink(target / "usr/local/bin/docker-old") == "x"
    table.write_text(SMALL_TABLE)
    for _ in range(2):
        assert run(source, "install", DESTDIR=str(target), TABLE=str(table)).returncode == 0
        assert (target / "usr/local/bin/docker-old").read_text() == "somebody's own"
        assert not (target / "etc/old.conf").exists()
        assert not (target / "etc/c").exists()
        assert "old" not in (target / "opt/skim/share/skim/installed").read_text()
    assert run(source, "uninstall", DESTDIR=str(target)).returncode == 0
    assert snapshot(target) == before


@pytest.mark.parametrize("directory", ["/etc/systemd/system", "/etc/systemd/system.attached"])
def test_units_of_an_older_version_go_and_what_it_replaced_stays_kept(directory: str, source: Path, tmp_path: Path) -> None:
    target, table = tmp_path / "target", tmp_path / "table"
    unit = target / directory.lstrip("/") / "docker.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("the administrator's")
    before = snapshot(target)
    table.write_text(f"text host-units/docker.service {directory}/docker.service 0644\n")
    run(source, "install", DESTDIR=str(target), TABLE=str(table))
    assert "skim" in unit.read_text()
    run(source, "install", DESTDIR=str(target))
    # In the first of them it would go before ours.
    assert unit.exists() is (directory != "/etc/systemd/system")
    assert (target / "opt/skim/lib/systemd/system/docker.service").exists()
    run(source, "uninstall", DESTDIR=str(target))
    assert snapshot(target) == before


def test_missing_build_is_named_and_nothing_changes(source: Path, tmp_path: Path) -> None:
    (source / "build/docker.aci").unlink()
    target = tmp_path / "target"
    target.mkdir()
    done = run(source, "install", DESTDIR=str(target))
    assert done.returncode == 1
    assert "build/docker.aci" in done.stderr
    assert snapshot(target) == {}


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_on_a_machine_without_systemd_or_root_it_refuses(source: Path, verb: str) -> None:
    if os.geteuid() == 0 and os.path.isdir("/run/systemd/system"):
        pytest.skip("this machine is run by systemd and we are root: it would install")
    done = run(source, verb, PREFIX="/nonexistent/skim")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "systemd" in done.stderr or "root" in done.stderr


def test_uninstall_of_nothing(source: Path, tmp_path: Path) -> None:
    done = run(source, "uninstall", DESTDIR=str(tmp_path))
    assert done.returncode == 1
    assert "nothing of skim is installed" in done.stderr


def test_units_pass_systemd(source: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    assert run(source, "install", DESTDIR=str(tmp_path / "d"), PREFIX=f"{tmp_path}/p", BINDIR="/opt/bin").returncode == 0
    shutil.copytree(tmp_path / "d" / str(tmp_path).lstrip("/") / "p", tmp_path / "p", symlinks=True)  # where ExecStart= looks
    units = tmp_path / "p/lib/systemd/system"
    done = subprocess.run(
        ["systemd-analyze", "verify", *[unit for unit in units.iterdir() if unit.suffix in (".service", ".socket")]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
