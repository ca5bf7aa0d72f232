"""States, locks and look-ups on real directories, with real processes holding locks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poddir import layout, locks, pods, status
from poddir.pods import PodError

HOLD = "import fcntl,os,sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2])); print(flush=True); sys.stdin.read()"


@contextmanager
def lock_held(path: str, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Another process holds a lock on `path` meanwhile."""
    command = [sys.executable, "-c", HOLD, path, str(kind)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def put(data: Path, directory: str, uuid: str | None = None) -> str:
    """Make a pod directory by hand; its UUID."""
    uuid = uuid or pods.random_uuid()
    (data / "pods" / directory / uuid).mkdir(parents=True)
    return uuid


@pytest.mark.parametrize(
    ("directory", "free", "held"),
    [
        ("embryo", "embryo", "embryo"),
        ("prepare", "aborted prepare", "preparing"),
        ("prepared", "prepared", "prepared"),
        ("run", "exited", "running"),
        ("exited-garbage", "exited garbage", "exited deleting"),
        ("garbage", "garbage", "deleting"),
    ],
)
def test_state_is_directory_and_lock(tmp_path: Path, directory: str, free: str, held: str) -> None:
    uuid = put(tmp_path, directory)
    with pods.open_pod(str(tmp_path), uuid) as pod:
        assert pod.state == free
        with lock_held(pod.path):
            pod.refresh()
            assert pod.state == held
            with pods.open_pod(str(tmp_path), uuid) as other:
                assert other.state == held
        pod.refresh()
        assert pod.state == free


def test_shared_lock_does_not_make_a_pod_running(tmp_path: Path) -> None:
    uuid = put(tmp_path, "run")
    with lock_held(str(tmp_path / "pods/run" / uuid), fcntl.LOCK_SH), pods.open_pod(str(tmp_path), uuid) as pod:
        assert pod.state == pods.EXITED


def test_probing_leaves_no_lock_behind(tmp_path: Path) -> None:
    uuid = put(tmp_path, "run")
    with pods.open_pod(str(tmp_path), uuid), pods.open_pod(str(tmp_path), uuid) as second:
        assert locks.try_exclusive(second.descriptor)


def test_whole_life(tmp_path: Path) -> None:
    data = str(tmp_path)
    with pods.create(data) as pod:
        assert pod.state == pods.PREPARING
        with pods.open_pod(data, pod.uuid) as seen:
            assert seen.state == pods.PREPARING
        pod.to_prepared()
        with pods.open_pod(data, pod.uuid) as runner:
            assert runner.state == pods.PREPARED
            runner.to_run()
            assert os.path.samefile(runner.path, tmp_path / "pods/run" / pod.uuid)
            with pods.open_pod(data, pod.uuid) as seen:
                assert seen.state == pods.RUNNING
        with pods.open_pod(data, pod.uuid) as ended:
            assert ended.state == pods.EXITED
            ended.to_exited_garbage()
            assert ended.state == pods.EXITED_GARBAGE
    assert [path.name for path in (tmp_path / "pods/exited-garbage").iterdir()] == [pod.uuid]
    assert not list((tmp_path / "pods/embryo").iterdir())


def test_directories_are_not_for_everyone(tmp_path: Path) -> None:
    with pods.create(str(tmp_path)) as pod:
        for path in (pod.path, os.path.dirname(pod.path), str(tmp_path / "pods")):
            assert os.stat(path).st_mode & 0o007 == 0, path


def test_second_runner_is_told_and_does_not_wait(tmp_path: Path) -> None:
    data = str(tmp_path)
    uuid = put(tmp_path, "prepared")
    for directory in pods.STATE_DIRECTORIES:
        (tmp_path / "pods" / directory).mkdir(exist_ok=True)
    with pods.open_pod(data, uuid) as first, pods.open_pod(data, uuid) as second:
        first.to_run()
        with pytest.raises(PodError, match="is not prepared"):
            second.to_run()


@pytest.mark.parametrize("directory", ["embryo", "prepared", "run", "garbage"])
def test_wrong_transitions_are_refused(tmp_path: Path, directory: str) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, directory)) as pod, pytest.raises(PodError):
        pod.to_exited_garbage() if directory != "run" else pod.to_garbage()


def test_look_up_by_beginning(tmp_path: Path) -> None:
    data = str(tmp_path)
    one = put(tmp_path, "run", "aabbccdd-0000-4000-8000-000000000001")
    put(tmp_path, "prepared", "aabbccdd-0000-4000-8000-000000000002")
    put(tmp_path, "garbage", "ffffffff-0000-4000-8000-000000000003")
    assert pods.resolve(data, one.upper()) == one
    for text, message in (
        ("aabb", "ambiguous uuid, 2 matches"),
        ("FFFF", 'no matches found for "ffff"'),
        ("", "UUID cannot be empty"),
    ):
        with pytest.raises(PodError) as caught:
            pods.resolve(data, text)
        assert str(caught.value) == message


def test_walk_is_sorted_and_tells_what_it_skips(tmp_path: Path) -> None:
    uuids = sorted(put(tmp_path, directory) for directory in ("run", "prepare", "prepared", "exited-garbage", "run"))
    put(tmp_path, "garbage")
    put(tmp_path, "run", "no-uuid")
    (tmp_path / "pods/run/file").touch()
    skipped: list[str] = []
    assert [pod.uuid for pod in pods.walk(str(tmp_path), pods.COMMON_DIRECTORIES, skipped)] == uuids
    assert len(skipped) == 1
    assert skipped[0].startswith('skipping "no-uuid"')


def test_random_uuids_are_of_version_4() -> None:
    uuid = pods.random_uuid()
    assert len(uuid) == 36
    assert uuid[14] == "4"
    assert uuid[19] in "89ab"
    assert uuid != pods.random_uuid()


def test_deleted_pod_is_noticed(tmp_path: Path) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, "garbage")) as pod:
        assert not pod.deleted()
        os.rmdir(pod.path)
        assert pod.deleted()
        pod.refresh()
        assert (pod.state, pod.path, pod.finished) == ("gone", "", True)


def test_times_are_those_of_the_marker_files(tmp_path: Path) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, "run")) as pod:
        Path(layout.pod_manifest(pod.path)).touch()
        os.utime(layout.pod_manifest(pod.path), ns=(1, 10**18))
        assert status.creation_time(pod) == 10**18
        assert status.start_time(pod) is None
        for name, time in (("pod-created", 2 * 10**18), ("ppid", 3 * 10**18)):
            Path(pod.path, name).touch()
            os.utime(Path(pod.path, name), ns=(1, time))
        assert (status.creation_time(pod), status.start_time(pod), status.marked_time(pod)) == (2 * 10**18, 3 * 10**18, None)


@pytest.mark.parametrize(("text", "number"), [("0\n", 0), ("  12 rest", 12), ("-9", -9), ("7x", 7), ("", None), ("x", None), ("-", None)])
def test_integers_of_files(tmp_path: Path, text: str, number: int | None) -> None:
    (tmp_path / "file").write_text(text)
    assert status.read_integer(str(tmp_path / "file")) == number


def test_exit_statuses_are_read_where_stage1_wrote_them(tmp_path: Path) -> None:
    pod = str(tmp_path)
    (tmp_path / "stage1/rootfs/rkt/status").mkdir(parents=True)
    (tmp_path / "stage1/rootfs/rkt/status/app").write_text("3")
    assert status.exit_status(pod, "app") == 3
    (tmp_path / "overlay-prepared").touch()
    (tmp_path / "stage1TreeStoreID").write_text("deps-x")
    assert status.exit_status(pod, "app") is None
    (tmp_path / "overlay/deps-x/upper/rkt/status").mkdir(parents=True)
    (tmp_path / "overlay/deps-x/upper/rkt/status/app").write_text("4")
    assert status.exit_status(pod, "app") == 4


def test_only_child_of_ppid_is_entered(tmp_path: Path) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, "run")) as pod:
        parent = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            Path(pod.path, "ppid").write_text(f"{parent.pid}\n")
            assert status.enterable_pid(pod) == child
            assert status.recorded_pid(pod.path) == parent.pid
        finally:
            os.kill(child, 9)
            parent.wait()
            parent.stdout.close()


def test_pod_that_ends_before_it_has_a_pid(tmp_path: Path) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, "run")) as pod, pytest.raises(PodError, match="is not running anymore"):
        status.enterable_pid(pod)


def test_waiting(tmp_path: Path) -> None:
    with pods.open_pod(str(tmp_path), put(tmp_path, "run")) as pod:
        with lock_held(pod.path), pytest.raises(TimeoutError):
            status.wait_finished(pod, 0.15)
        status.wait_finished(pod, None)
        assert pod.state == pods.EXITED
        with pytest.raises(TimeoutError):
            status.wait_ready(pod, 0.05)
        Path(pod.path, "stage1/rootfs/rkt").mkdir(parents=True)
        os.symlink("ready", layout.supervisor_status(pod.path))
        status.wait_ready(pod, 0.05)


def test_key_lock_is_of_the_file_that_has_the_name(tmp_path: Path) -> None:
    with locks.KeyLock(str(tmp_path), "key", shared=True), locks.KeyLock(str(tmp_path), "key", shared=True):
        pass
    with locks.KeyLock(str(tmp_path), "key", shared=False) as held:
        os.unlink(tmp_path / "key")
        with locks.KeyLock(str(tmp_path), "key", shared=False) as other:
            assert not os.path.samestat(os.fstat(held.descriptor), os.fstat(other.descriptor))
