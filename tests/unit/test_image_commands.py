"""`rkt fetch` and `rkt image ...` as a user types them."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from appc.pod import PodManifest, RuntimeApp, RuntimeImage, pod_manifest_json
from stage0.commands import dispatch
from stage0.image_commands.list import human_size
from stage0.store import Store
from unit.image_making import directory, manifest_bytes, member, symlink, write_image


class Rkt:
    """Runs commands on a data directory; `out` and `err` hold what the last one printed."""

    def __init__(self, data: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self._capture = capture
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        status = dispatch([f"--dir={self.data}", *arguments])
        self.out, self.err = self._capture.readouterr()
        return status

    def fetch(self, path: str) -> str:
        assert self("--insecure-options=image", "fetch", "--full", path) == 0, self.err
        return self.out.strip()


@pytest.fixture
def rkt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rkt:
    return Rkt(tmp_path / "data", capsys)


@pytest.fixture
def app(tmp_path: Path) -> str:
    return write_image(
        tmp_path / "app.aci", directory("rootfs/bin"), (member("rootfs/bin/hello"), b"hello"), symlink("rootfs/l", "/bin/hello")
    )


def test_fetch_prints_the_id(rkt: Rkt, app: str) -> None:
    key = rkt.fetch(app)
    assert len(key) == len("sha512-") + 64
    assert rkt("fetch", "--insecure-options=image", app) == 0
    assert rkt.out == key[: len("sha512-") + 32] + "\n"
    assert rkt("fetch", key[:20]) == 0
    assert rkt("fetch", "example.com/app:1.0.0") == 0


def test_fetch_refuses_in_one_line(rkt: Rkt, app: str, tmp_path: Path) -> None:
    evil = write_image(tmp_path / "evil.aci", (member("rootfs/../../x"), b"x"))
    for arguments, message in (
        ([app], "use --insecure-options=image"),
        (["--insecure-options=image", evil], 'has ".." in its name'),
        (["--insecure-options=image", "--pull-policy=never", app], "--pull-policy=never"),
        (["sha512-123456"], "no image IDs found"),
        (["docker://redis"], "not supported"),
        (["example.com/app:9"], "cannot find aci"),
        ([], "must provide at least one image"),
    ):
        assert rkt("fetch", *arguments) == 254
        assert message in rkt.err
        assert rkt.err.startswith("fetch: ") and rkt.err.count("\n") == 1
        assert rkt.out == ""
    assert not [path for path in (rkt.data / "cas").rglob("*") if path.is_file()]


def test_list(rkt: Rkt, app: str, tmp_path: Path) -> None:
    assert rkt("image", "list", "--format=json") == 0
    assert rkt.out == "null\n"
    first = rkt.fetch(app)
    second = rkt.fetch(
        write_image(tmp_path / "b.aci", (member("rootfs/x"), b"x" * 100_000), manifest=manifest_bytes(name="a.org/b", labels=[]))
    )
    assert rkt("image", "list") == 0
    lines = rkt.out.splitlines()
    assert [cell for cell in lines[0].split("\t") if cell] == ["ID", "NAME", "SIZE", "IMPORT TIME", "LAST USED"]
    assert [line.split("\t")[0] for line in lines[1:]] == [first[:19], second[:19]]
    assert "example.com/app:1.0.0" in lines[1] and "\ta.org/b\t" in lines[2]
    assert rkt("image", "list", "--sort=name", "--order=desc", "--no-legend", "--fields=name") == 0
    assert rkt.out.split() == ["example.com/app:1.0.0", "a.org/b"]
    assert rkt("image", "list", "--sort=size", "--full", "--no-legend", "--fields=id,size") == 0
    assert rkt.out.split()[0] == first
    assert rkt("image", "list", "--format=json-pretty") == 0
    entry = json.loads(rkt.out)[0]
    assert set(entry) == {"id", "name", "import_time", "last_used_time", "size"}
    assert entry["size"] == Store(str(rkt.data)).image(first).size + Store(str(rkt.data)).image(first).tree_size
    assert rkt("image", "list", "--fields=colour") == 254


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (9, "9B"),
        (82, "82B"),
        (1023, "1023B"),
        (4096, "4.0KiB"),
        (26 * 1024 + 300, "26KiB"),
        (10 * 1024**2 - 1, "10MiB"),
        (844993991, "806MiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


def test_rm(rkt: Rkt, app: str) -> None:
    key = rkt.fetch(app)
    assert rkt("image", "rm", "example.com/app", key, "example.com/unknown") == 0
    assert rkt.out == f'successfully removed aci for image: "{key}"\n'
    assert "rm: 1 image(s) successfully removed\n" in rkt.err
    assert 'rm: cannot find aci satisfying name: "example.com/unknown"' in rkt.err
    assert rkt("image", "rm", key) == 0
    assert rkt.out == "" and rkt.err == "rm: no image IDs found\n"
    assert rkt("image", "rm") == 254


def test_cat_manifest(rkt: Rkt, app: str) -> None:
    rkt.fetch(app)
    assert rkt("image", "cat-manifest", "example.com/app") == 0
    assert rkt.out.startswith('{\n\t"acKind": "ImageManifest",\n')
    assert rkt("image", "cat-manifest", "--pretty-print=false", "example.com/app") == 0
    assert rkt.out.count("\n") == 1 and json.loads(rkt.out)["name"] == "example.com/app"
    assert rkt("image", "cat-manifest", "sha512-00") == 254
    assert rkt("image", "cat-manifest") == 254


def test_verify_mends_a_changed_tree(rkt: Rkt, app: str) -> None:
    key = rkt.fetch(app)
    from stage0.tree_store import TreeStore

    trees = TreeStore(Store(str(rkt.data)))
    hello = Path(trees.rootfs(trees.render(key)), "bin/hello")
    assert rkt("image", "verify", "example.com/app") == 0
    assert rkt.out == f'successfully verified checksum for image: "example.com/app" ("{key}")\n'
    hello.write_text("changed")
    assert rkt("image", "verify", key) == 0
    assert rkt.out.startswith(f"tree cache verification failed for image {key}: wrong tree hash: sha512-")
    assert rkt.out.endswith(";  rebuilding...\n")
    assert hello.read_text() == "hello"
    trees.remove(trees.tree_id(key))
    assert rkt("image", "verify", key) == 0
    assert rkt.out == f'image "{key}" not rendered; no verification needed\n'


def test_gc_keeps_what_pods_need(rkt: Rkt, app: str, tmp_path: Path) -> None:
    from stage0.tree_store import TreeStore

    used = rkt.fetch(app)
    old = rkt.fetch(write_image(tmp_path / "old.aci", manifest=manifest_bytes(name="example.com/old")))
    trees = TreeStore(Store(str(rkt.data)))
    stage1 = rkt.fetch(write_image(tmp_path / "stage1.aci", manifest=manifest_bytes(name="example.com/stage1")))
    used_tree, old_tree, stage1_tree = trees.render(used), trees.render(old), trees.render(stage1)
    pod = rkt.data / "pods/run/6733c088-a507-4694-aabf-edbe4fc5266f"
    (pod / "appsinfo/app").mkdir(parents=True)
    (pod / "appsinfo/app/treeStoreID").write_text(used_tree)
    (pod / "stage1TreeStoreID").write_text(stage1_tree)
    entry = RuntimeApp(name="app", image=RuntimeImage(id=used))
    (pod / "pod").write_text(pod_manifest_json(PodManifest(ac_version="1.30.0", apps=(entry,))))
    lock = os.open(pod, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert rkt("image", "gc") == 0
    assert rkt.err == f'gc: removed treestore "{old_tree}"\n'
    assert trees.tree_ids() == sorted([used_tree, stage1_tree])
    assert len(Store(str(rkt.data)).images()) == 3
    left = rkt.data / "cas/tmp/import.999999999.1"
    left.touch()
    assert rkt("image", "gc", "--grace-period=0s") == 0
    assert rkt.out == f'successfully removed aci for image: "{old}"\n'
    assert not left.exists()
    os.close(lock)
    assert rkt("image", "gc", "--grace-period=0s") == 0
    assert sorted(rkt.out.splitlines()) == sorted(f'successfully removed aci for image: "{key}"' for key in (used, stage1))


def test_gc_keeps_what_is_mounted(rkt: Rkt, app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed engine is reached through mounts of its trees, also while no pod runs."""
    from stage0.image_commands import gc
    from stage0.tree_store import TreeStore

    trees = TreeStore(Store(str(rkt.data)))
    mounted = trees.render(rkt.fetch(app))
    old = rkt.fetch(write_image(tmp_path / "old.aci", manifest=manifest_bytes(name="example.com/old")))
    trees.render(old)
    monkeypatch.setattr(gc, "mount_points", lambda text: [text] if text == mounted else [])
    assert rkt("image", "gc", "--grace-period=0s") == 0
    assert trees.tree_ids() == [mounted]
    assert rkt.out == f'successfully removed aci for image: "{old}"\n'


def test_images_that_somebody_needs_stay(rkt: Rkt, app: str, tmp_path: Path) -> None:
    from stage0.tree_store import TreeStore

    key = rkt.fetch(app)
    tree = TreeStore(Store(str(rkt.data))).render(key)
    roots = rkt.data / "cas/roots"
    roots.mkdir()
    (roots / "skim-engine").write_text(f"{key}\n")
    assert rkt("image", "gc", "--grace-period=0s") == 0
    assert TreeStore(Store(str(rkt.data))).tree_ids() == [tree]
    assert rkt("image", "rm", key) == 254
    assert "skim-engine needs it" in rkt.err
    (roots / "skim-engine").unlink()
    assert rkt("image", "rm", key) == 0


def test_gc_goes_on_after_a_damaged_entry(rkt: Rkt, app: str, tmp_path: Path) -> None:
    old = rkt.fetch(app)
    damaged = rkt.fetch(write_image(tmp_path / "b.aci", manifest=manifest_bytes(name="example.com/damaged")))
    (rkt.data / "cas/index" / damaged).write_bytes(b"\xff")
    assert rkt("image", "gc", "--grace-period=0s") == 0
    assert f"entry for {damaged} is damaged" in rkt.err
    assert rkt.out == f'successfully removed aci for image: "{old}"\n'


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root renders what it fetches")
def test_nothing_is_left_of_an_image_that_cannot_be_rendered(rkt: Rkt, tmp_path: Path) -> None:
    attribute = {"SCHILY.xattr.security.capability": "no capabilities"}
    evil = write_image(tmp_path / "evil.aci", member("rootfs/x", pax_headers=attribute))
    assert rkt("--insecure-options=image", "fetch", evil) == 254
    assert rkt.err.count("\n") == 1 and '"rootfs/x"' in rkt.err
    assert not [path for path in (rkt.data / "cas").rglob("*") if path.is_file()]


def test_a_damaged_image_is_not_exported(rkt: Rkt, app: str, tmp_path: Path) -> None:
    key = rkt.fetch(app)
    blob = Path(Store(str(rkt.data)).blob_path(key))
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1  # of the padding: the archive reads as before
    blob.write_bytes(content)
    assert rkt("image", "export", key, str(tmp_path / "exported.aci")) == 254
    assert f"image {key} is damaged in the store" in rkt.err and "fetch the image again" in rkt.err
    assert not (tmp_path / "exported.aci").exists()


def test_export_extract_render(rkt: Rkt, app: str, tmp_path: Path) -> None:
    key = rkt.fetch(app)
    exported = tmp_path / "exported.aci"
    assert rkt("image", "export", key, str(exported)) == 0
    assert exported.read_bytes() == Path(app).read_bytes()
    assert rkt("image", "export", key, str(exported)) == 254
    assert rkt.err == "export: output ACI file exists (try --overwrite)\n"
    assert rkt("image", "export", "--overwrite", key, str(exported)) == 0
    for command in ("extract", "render"):
        target = tmp_path / command
        assert rkt("image", command, key, str(target)) == 0
        assert sorted(path.name for path in target.iterdir()) == ["manifest", "rootfs"]
        assert (target / "rootfs/bin/hello").read_text() == "hello"
        assert rkt("image", command, key, str(target)) == 254
        assert "output directory exists (try --overwrite)" in rkt.err
        assert rkt("image", command, "--overwrite", "--rootfs-only", key, str(target)) == 0
        assert sorted(path.name for path in target.iterdir()) == ["bin", "l"]
        assert rkt("image", command, "--overwrite", key, "/") == 254
    assert not list(tmp_path.glob(".rkt-image-*"))
