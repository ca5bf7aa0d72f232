"""Which volume lands where, and that no link in an image leads a mount to the host's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appc.errors import UserError
from pod_directories import UUID, app_entry, app_root, app_section, image_manifest, make_pod
from stage1_skim.copying import copy_tree
from stage1_skim.pod import Pod, read_pod
from stage1_skim.volumes import AppVolumes, app_volumes


def volumes(pod: Path) -> AppVolumes:
    read: Pod = read_pod(str(pod), UUID)
    return app_volumes(read, read.apps[0])


def pod_with(tmp_path: Path, mounts: list[dict[str, Any]], pod_volumes: list[dict[str, Any]], points: Any = (), image: Any = None) -> Path:
    app = app_section("/x", mountPoints=list(points))
    return make_pod(tmp_path / "pod", app_entry("a", app, mounts=mounts), images={"a": image} if image else None, volumes=pod_volumes)


def test_a_host_volume_read_only_by_its_mount_point(tmp_path: Path) -> None:
    pod = pod_with(
        tmp_path, [], [{"name": "data", "kind": "host", "source": "/etc"}], [{"name": "data", "path": "/data", "readOnly": True}]
    )
    (mount,) = volumes(pod).mounts
    assert (mount.source, mount.target, mount.read_only, mount.recursive) == ("/etc", f"{app_root(pod, 'a')}/data", True, True)


def test_the_volume_has_the_last_word_on_read_only(tmp_path: Path) -> None:
    volume = {"name": "data", "kind": "host", "source": "/etc", "readOnly": False, "recursive": False}
    pod = pod_with(tmp_path, [], [volume], [{"name": "data", "path": "/data", "readOnly": True}])
    (mount,) = volumes(pod).mounts
    assert (mount.read_only, mount.recursive) == (False, False)


def test_link_in_the_image_is_followed_inside_it(tmp_path: Path) -> None:
    pod = pod_with(tmp_path, [{"volume": "data", "path": "/data/here"}], [{"name": "data", "kind": "host", "source": "/etc"}])
    (app_root(pod, "a") / "data").symlink_to("/etc")
    (mount,) = volumes(pod).mounts
    assert mount.target == f"{app_root(pod, 'a')}/etc/here"


def test_parents_are_mounted_before_what_is_below(tmp_path: Path) -> None:
    wanted = [{"volume": "v", "path": "/a/b"}, {"volume": "v", "path": "/a"}, {"volume": "v", "path": "/a/b/c"}]
    pod = pod_with(tmp_path, wanted, [{"name": "v", "kind": "empty"}])
    assert [mount.target.removeprefix(str(app_root(pod, "a"))) for mount in volumes(pod).mounts] == ["/a", "/a/b", "/a/b/c"]


def test_the_order_is_that_of_the_places_and_not_of_the_names_that_lead_there(tmp_path: Path) -> None:
    """/lib/modules is below /usr/lib there: mounted before it, it would be hidden."""
    wanted = [{"volume": "v", "path": "/lib/modules"}, {"volume": "v", "path": "/usr/lib"}, {"volume": "w", "path": "/lib"}]
    pod = pod_with(tmp_path, wanted, [{"name": "v", "kind": "empty"}, {"name": "w", "kind": "empty"}])
    (app_root(pod, "a") / "usr/lib").mkdir(parents=True)
    (app_root(pod, "a") / "lib").symlink_to("usr/lib")
    found = [(mount.path, os.path.basename(mount.source)) for mount in volumes(pod).mounts]
    assert found == [("/usr/lib", "v"), ("/usr/lib/modules", "v")]


def test_a_mount_point_is_covered_by_a_mount_of_another_name_for_it(tmp_path: Path) -> None:
    points = [{"name": "libraries", "path": "/lib", "readOnly": True}]
    pod = pod_with(tmp_path, [{"volume": "v", "path": "/usr/lib"}], [{"name": "v", "kind": "empty"}], points)
    (app_root(pod, "a") / "usr/lib").mkdir(parents=True)
    (app_root(pod, "a") / "lib").symlink_to("usr/lib")
    found = volumes(pod)
    assert [(mount.path, mount.read_only) for mount in found.mounts] == [("/usr/lib", True)]
    assert found.warnings == ()


def test_mount_point_without_a_volume_gets_an_empty_one_and_a_warning(tmp_path: Path) -> None:
    pod = pod_with(tmp_path, [], [], [{"name": "cache", "path": "/cache"}])
    found = volumes(pod)
    (mount,) = found.mounts
    assert mount.source == f"{pod}/sharedVolumes/a-cache"
    assert mount.empty is not None
    assert (mount.empty.mode, mount.empty.filled_from) == (0o755, None)
    assert "cache" in found.warnings[0]


def test_docker_images_find_their_files_in_volumes_that_nobody_asked_for(tmp_path: Path) -> None:
    image = image_manifest("example.com/a", annotations={"appc.io/docker/repository": "a"})
    points = [{"name": "cache", "path": "/cache"}, {"name": "asked", "path": "/asked"}]
    pod = pod_with(tmp_path, [], [{"name": "asked", "kind": "empty"}], points, image)
    for name in ("cache", "asked"):
        (app_root(pod, "a") / name).mkdir()
        (app_root(pod, "a") / name).chmod(0o2750)
    asked, cache = (mount.empty for mount in volumes(pod).mounts)
    assert asked is not None
    assert cache is not None
    assert (asked.filled_from, asked.mode) == (None, 0o755)
    assert (cache.filled_from, cache.mode) == (f"{app_root(pod, 'a')}/cache", 0o2750)


def test_copying_keeps_what_a_file_is(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    (source / "file").write_text("content")
    (source / "file").chmod(0o4750)
    os.utime(source / "file", (1, 2))
    os.link(source / "file", source / "sub/same")
    (source / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    os.chmod(source / "sub", 0o1777)
    copy_tree(str(source), str(target))
    assert (target / "file").read_text() == "content"
    assert (target / "file").stat().st_mode & 0o7777 == 0o4750
    assert (target / "file").stat().st_mtime == 2
    assert (target / "sub/same").samefile(target / "file")
    assert os.readlink(target / "absolute") == "/etc/passwd"
    assert (target / "fifo").is_fifo()
    assert (target / "sub").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize(
    ("mounts", "pod_volumes", "said"),
    [
        ([{"volume": "v", "path": "/x"}], [], "dangling mount point '/x': volume 'v' not found"),
        ([{"volume": "v", "path": "/x"}], [{"name": "v", "kind": "host", "source": "/does/not/exist"}], "/does/not/exist does not exist"),
        ([{"volume": "v", "path": "/x"}], [{"name": "v", "kind": "empty", "mode": "rwx"}], "mode: must be octal digits"),
        ([{"volume": "v", "path": "/x/.."}], [{"name": "v", "kind": "host", "source": "/etc"}], "cannot be mounted on the root"),
    ],
)
def test_what_cannot_be_mounted_is_refused_by_name(tmp_path: Path, mounts: Any, pod_volumes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        volumes(pod_with(tmp_path, mounts, pod_volumes))
