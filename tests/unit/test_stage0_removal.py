"""The end of pods by `rkt gc` and `rkt rm`, with a stage1 of shell scripts: whatever state they are in, and nothing but the pod."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stub_stage1 import stub_stage1
from unit.stage0_process import Stage0, lines, needs_root


@needs_root
@pytest.mark.parametrize(("version", "words"), [("4", []), ("5", ["--local-config", "LOCAL"]), (None, [])])
def test_gc_of_stage1(stage0: Stage0, version: str | None, words: list[str]) -> None:
    """Its output is discarded, its failure is told and does not keep the pod from being deleted."""
    record = stage0.directory / "gc"
    stub_stage1(stage0.stage1, version=version, gc=f'cp gc-arguments "{record}"; exit 7')
    uuid = stage0.prepare("--no-overlay")
    stage0("run-prepared", uuid)
    done = stage0("rm", uuid)
    assert (done.returncode, done.stdout) == (0, f'"{uuid}"\n')
    assert done.stderr == f'rm: problem performing stage1 GC on "{uuid}": exit status 7\n'
    garbage = stage0.pod(uuid, "exited-garbage")
    arguments = [str(stage0.directory) if word == "LOCAL" else word for word in words]
    assert lines(record) == [f"{garbage}/stage1/rootfs/stub/gc", *arguments, uuid]
    assert stage0.pods() == {}


@needs_root
def test_killed_while_preparing_is_collected(stage0: Stage0) -> None:
    from poddir import pods

    with pods.create(str(stage0.data)) as pod:
        uuid = pod.uuid
    assert stage0.ok("status", uuid) == "state=aborted prepare\ncreated=0001-01-01 00:00:00 +0000 UTC"
    done = stage0("gc")
    assert done.stderr == f'gc: moving failed prepare "{uuid}" to garbage\n'
    assert done.stdout == f'Garbage collecting pod "{uuid}"\n'
    assert stage0.pods() == {}


@needs_root
def test_prepared_pods_expire(stage0: Stage0) -> None:
    uuid = stage0.prepare("--no-overlay")
    assert stage0.ok("gc") == ""
    assert stage0.ok("gc", "--mark-only", "--expire-prepared=0s") == ""
    assert stage0.pods() == {"prepared": [uuid]}
    assert stage0.ok("gc", "--expire-prepared=0s") == f'Garbage collecting pod "{uuid}"'
    assert stage0.pods() == {}


@needs_root
def test_overlay_pod_and_reboot(mounting: Stage0) -> None:
    if "nodev\toverlay\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs overlay: not in /proc/filesystems")
    record = mounting.directory / "gc"
    stub_stage1(mounting.stage1, gc=f'cat "$(dirname "$0")/../rkt/status/app" > "{record}"')
    done = mounting("run", f"--stage1-path={mounting.stage1}", str(mounting.app), "--name=app", STUB_STATUS="3")
    assert done.returncode == 3, done.stderr
    (uuid,) = mounting.pods()["run"]
    assert mounting.ok("status", uuid).splitlines()[-1] == "app-app=3"
    mounts = subprocess.run([*mounting.prefix, "cat", "/proc/self/mountinfo"], capture_output=True, text=True, check=True).stdout
    below = [line.split()[4] for line in mounts.splitlines() if uuid in line]
    rootfs = str(mounting.pod(uuid) / "stage1/rootfs")
    assert below == [rootfs, f"{rootfs}/opt/stage2/app/rootfs"]
    for target in reversed(below):
        subprocess.run([*mounting.prefix, "umount", target], check=True)
    assert mounting.ok("gc", "--grace-period=0s") == f'Garbage collecting pod "{uuid}"'
    assert record.read_text() == "3\n"
    assert mounting.pods() == {}


@needs_root
@pytest.mark.parametrize("content", [b"", bytes(36)], ids=["empty", "zeros"])
def test_a_pod_whose_files_a_power_cut_left_unwritten_is_collected(mounting: Stage0, content: bytes) -> None:
    """The directories are on the disk then, and what was in the files is not."""
    done = mounting("run", f"--stage1-path={mounting.stage1}", str(mounting.app), "--name=app")
    assert done.returncode == 0, done.stderr
    (uuid,) = mounting.pods()["run"]
    subprocess.run([*mounting.prefix, "umount", "--recursive", str(mounting.pod(uuid) / "stage1/rootfs")], check=False, capture_output=True)
    for path in mounting.pod(uuid).rglob("*"):
        if path.is_file():
            path.write_bytes(content)
    for command in (["list"], ["status", uuid], ["stop", uuid], ["enter", uuid, "/bin/true"], ["cat-manifest", uuid]):
        assert "Traceback" not in mounting(*command).stderr
    assert mounting.ok("rm", uuid) == f'"{uuid}"'
    assert mounting.pods() == {}


@needs_root
def test_nothing_is_deleted_through_a_mount(mounting: Stage0) -> None:
    """A volume of the user's is still mounted when the pod is deleted: unmounted, and its files stay."""
    uuid = mounting.prepare("--no-overlay")
    mounting("run-prepared", uuid)
    volume = mounting.directory / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "precious").touch()
    target = mounting.pod(uuid) / "stage1/rootfs/opt/stage2/app/rootfs/etc"
    subprocess.run([*mounting.prefix, "mount", "--bind", str(volume), str(target)], check=True)
    subprocess.run([*mounting.prefix, "mount", "-t", "tmpfs", "none", str(target / "sub")], check=True)
    assert mounting("rm", uuid).returncode == 0
    assert sorted(path.name for path in volume.iterdir()) == ["precious", "sub"]
    assert mounting.pods() == {}


@needs_root
def test_deletion_stops_at_a_mount(mounting: Stage0) -> None:
    tree, volume = mounting.directory / "tree", mounting.directory / "volume"
    (tree / "below").mkdir(parents=True)
    volume.mkdir()
    (volume / "precious").touch()
    code = f"""
from linux import mount
from stage0.removal import delete_tree
mount.bind({str(volume)!r}, {str(tree / "below")!r})
try:
    delete_tree({str(tree)!r})
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run(
        [*mounting.prefix, sys.executable, "-c", code], env=mounting.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "18\n", done.stderr
    assert (volume / "precious").exists()


def test_deletion_of_very_deep_directories(tmp_path: Path) -> None:
    """Deeper than a process may have files open, and than a path may be long."""
    from stage0.removal import delete_tree

    tree = tmp_path / "tree"
    tree.mkdir()
    parent = os.open(tree, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d" * 10, dir_fd=parent)
        os.close(os.open("file", os.O_CREAT, dir_fd=parent))
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = below
    os.close(parent)
    delete_tree(str(tree))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_root
def test_concurrent_use(stage0: Stage0) -> None:
    """gc, rm and list at the same time: the pods are gone afterwards, and nothing fails in a way that is not one of a race."""
    uuids = [stage0.prepare("--no-overlay") for _ in range(3)]
    for uuid in uuids:
        stage0("run-prepared", uuid)
    commands = [("gc", "--grace-period=0s"), ("gc", "--grace-period=0s"), ("rm", uuids[1]), ("list",)]
    processes = [stage0.start(*command) for command in commands]
    errors = [process.communicate()[1] for process in processes]
    assert not any("Traceback" in error for error in errors), errors
    assert [process.returncode for process in processes][:2] == [0, 0], errors
    stage0("gc", "--grace-period=0s")
    assert stage0.pods() == {}
