"""Rendering: an image and what it depends on become a tree; damage is found; nothing outside is touched."""

from __future__ import annotations

import multiprocessing
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appc.archive import ArchiveReader, FileSource, write_archive
from appc.errors import ArchiveError, UserError
from appc.image import parse_image_manifest
from stage0.extraction import Extraction
from stage0.image_import import import_image
from stage0.rendering import DamagedBlob, layers, render_into
from stage0.store import Store
from stage0.tree_store import TreeDamaged, TreeNotRendered, TreeStore, tree_id_of
from unit.image_making import directory, hard_link, image_bytes, manifest_bytes, member, symlink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners and make devices")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"))


def add(store: Store, name: str, *members: object, **changes: object) -> str:
    path = Path(store.data_directory + f".{name}.aci")
    path.write_bytes(image_bytes(*members, manifest=manifest_bytes(name=name, **changes)))  # type: ignore[arg-type]
    return import_image(store, str(path), verified=True, devices=True)


def file(name: str, content: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member("rootfs/" + name, **fields), content.encode()


def tree(store: Store, key: str) -> Path:
    trees = TreeStore(store)
    return Path(trees.rootfs(trees.render(key)))


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_tree_has_rkts_files(store: Store) -> None:
    key = add(store, "a", file("x", "x"))
    trees = TreeStore(store)
    tree_id = trees.render(key)
    # sha512 over the key, as in contract section 2.8.
    assert tree_id == tree_id_of([key]) and tree_id.startswith("deps-sha512-") and len(tree_id) == 76
    where = Path(trees.path(tree_id))
    assert sorted(path.name for path in where.iterdir()) == ["hash", "image", "manifest", "rendered", "rootfs"]
    assert (where / "image").read_text() == key
    assert (where / "rendered").read_text() == ""
    assert (where / "manifest").read_text() == store.manifest_text(key)
    assert store.image(key).tree_size > 0
    trees.check(tree_id)


@needs_root
def test_the_hash_is_rkts(store: Store) -> None:
    """The value is what `rkt fetch` and `image render` of rkt 1.30 (built with Go 1.19) wrote for these very members."""
    key = add(
        store,
        "a",
        directory("rootfs/d"),
        file("d/x", "hello", uid=5, gid=6),
        symlink("rootfs/l", "d/x"),
        member("rootfs/z", tarfile.LNKTYPE, link="rootfs/d/x", uid=5, gid=6),
    )
    trees = TreeStore(store)
    tree_id = trees.render(key)
    assert Path(trees.path(tree_id), "hash").read_text() == "sha512-1f91e9fe9a82a916166afcc25b42144c94d0e8304a8451318d125d0f9dec002a"


def test_modes_times_links(store: Store) -> None:
    key = add(
        store,
        "a",
        directory("rootfs/dir", mode=0o1555, mtime=1_000_000_000),
        file("dir/setuid", "x", mode=0o6755, mtime=1_234_567_890),
        hard_link("rootfs/dir/again", "rootfs/dir/setuid"),
        symlink("rootfs/absolute", "/etc/passwd"),
        file("implied/deep/file", ""),
        member("rootfs/fifo", tarfile.FIFOTYPE, mode=0o620),
    )
    old = os.umask(0o077)
    try:
        root = tree(store, key)
    finally:
        os.umask(old)
    assert os.stat(root / "dir").st_mode & 0o7777 == 0o1555
    assert os.stat(root / "dir").st_mtime == 1_000_000_000
    assert os.stat(root / "dir/setuid").st_mode & 0o7777 == 0o6755
    assert os.stat(root / "dir/setuid").st_mtime == 1_234_567_890
    assert os.path.samefile(root / "dir/setuid", root / "dir/again")
    assert os.readlink(root / "absolute") == "/etc/passwd"
    assert os.stat(root / "implied/deep").st_mode & 0o7777 == 0o755
    assert os.stat(root / "fifo").st_mode & 0o7777 == 0o620


@needs_root
def test_owners_devices_and_attributes(store: Store) -> None:
    attributes = {"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.trusted.x": "not kept"}
    key = add(
        store,
        "a",
        file("owned", "x", uid=1234, gid=4321, pax_headers=attributes),
        member("rootfs/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    )
    root = tree(store, key)
    status = os.stat(root / "owned")
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
    try:
        kept = os.listxattr(root / "owned")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert [name for name in kept if name.startswith(("user.", "trusted."))] == ["user.note"]


def test_dependencies_are_flattened_the_last_first(store: Store) -> None:
    d = add(store, "d", file("d", "d"), file("both", "d"))
    b = add(store, "b", file("b", "b"), file("both", "b"))
    c = add(store, "c", file("c", "c"), dependencies=[{"imageName": "d"}])
    a = add(store, "a", file("a", "a"), dependencies=[{"imageName": "b", "imageID": b}, {"imageName": "c"}])
    assert [(layer.key, layer.level) for layer in layers(store, a)] == [(a, 0), (c, 1), (d, 2), (b, 1)]
    assert TreeStore(store).tree_id(a) == tree_id_of([a, c, d, b])
    root = tree(store, a)
    assert names(root) == ["a", "b", "both", "c", "d"]
    assert (root / "both").read_text() == "d"


def test_an_upper_file_hides_a_lower_directory(store: Store) -> None:
    add(store, "below", directory("rootfs/data"), file("data/x", "x"), file("kept", "x"))
    key = add(store, "above", symlink("rootfs/data", "/elsewhere"), dependencies=[{"imageName": "below"}])
    assert names(tree(store, key)) == ["data", "kept"]


def test_path_whitelists(store: Store) -> None:
    add(store, "below", directory("rootfs/bin"), file("bin/a", "a"), file("bin/b", "b"), directory("rootfs/lib"), file("top", "t"))
    inherited = add(store, "above", dependencies=[{"imageName": "below"}], pathWhitelist=["/bin", "bin/a", "/lib/"])
    assert names(tree(store, inherited)) == ["bin", "bin/a", "lib"]
    own = add(store, "own", directory("rootfs/bin"), file("bin/a", "a"), file("bin/b", "b"), pathWhitelist=["/bin/b"])
    assert names(tree(store, own)) == ["bin", "bin/b"]


def test_missing_and_circular_dependencies(store: Store) -> None:
    key = add(store, "a", dependencies=[{"imageName": "example.com/missing"}])
    with pytest.raises(UserError, match=r'"a" depends on "example\.com/missing", which is not in the store'):
        TreeStore(store).render(key)
    circle = add(store, "circle", dependencies=[{"imageName": "circle"}])
    with pytest.raises(UserError, match="form a circle"):
        TreeStore(store).render(circle)
    assert TreeStore(store).tree_ids() == []


@pytest.mark.parametrize("damage", ["content", "header", "truncated", "missing"])
def test_a_damaged_blob_is_found_and_mended_by_fetching_again(damage: str, store: Store) -> None:
    key = add(store, "a", file("x", "hello world" * 1000))
    blob = Path(store.blob_path(key))
    content = blob.read_bytes()
    if damage == "missing":
        blob.unlink()
    else:
        place = {"content": content.index(b"hello"), "header": content.index(b"rootfs/x"), "truncated": 0}[damage]
        blob.write_bytes(content[:-3000] if damage == "truncated" else content[:place] + b"J" + content[place + 1 :])
    with pytest.raises(DamagedBlob, match=f"image {key} is damaged in the store.*fetch the image again"):
        TreeStore(store).render(key)
    assert TreeStore(store).tree_ids() == []
    add(store, "a", file("x", "hello world" * 1000))
    assert (tree(store, key) / "x").read_text().startswith("hello")


def test_a_changed_tree_is_found_and_rebuilt(store: Store) -> None:
    key = add(store, "a", file("x", "x"))
    trees = TreeStore(store)
    tree_id = trees.tree_id(key)
    with pytest.raises(TreeNotRendered):
        trees.check(tree_id)
    root = tree(store, key)
    (root / "x").write_text("y")
    with pytest.raises(TreeDamaged, match="wrong tree hash: sha512-"):
        trees.check(tree_id)
    trees.render(key, rebuild=True)
    trees.check(tree_id)
    assert (root / "x").read_text() == "x"
    trees.remove(tree_id)
    assert trees.tree_ids() == [] and store.image(key).tree_size == 0


def test_a_half_rendered_tree_is_rendered_anew(store: Store) -> None:
    key = add(store, "a", file("x", "x"))
    trees = TreeStore(store)
    stale = Path(trees.path(trees.tree_id(key)), "rootfs/stale")
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert names(tree(store, key)) == ["x"]


def test_rendering_without_the_tree_store(store: Store, tmp_path: Path) -> None:
    key = add(store, "a", file("x", "x"))
    (tmp_path / "app").mkdir()
    render_into(store, layers(store, key), str(tmp_path / "app"))
    assert names(tmp_path / "app") == ["manifest", "rootfs", "rootfs/x"]


def test_extraction_never_follows_a_link_that_is_there_already(tmp_path: Path) -> None:
    """Even where an archive's checks were to fail, or a lower image's link lies in the way of an upper one's file."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / "rootfs").mkdir(parents=True)
    (inside / "rootfs/a").symlink_to(outside)
    (inside / "rootfs/file").symlink_to(outside / "created")
    for members in ([file("a/x", "x")], [file("file", "x")], [directory("rootfs/a")]):
        (tmp_path / "image").write_bytes(image_bytes(*members))
        descriptor = os.open(tmp_path / "image", os.O_RDONLY)
        with Extraction(str(inside)) as extraction, pytest.raises(ArchiveError, match=r"no directory|already there"):
            for found in ArchiveReader(FileSource(descriptor)):
                extraction.place(found, descriptor)
            extraction.finish()
        os.close(descriptor)
    assert list(outside.iterdir()) == []


def test_deep_trees_do_not_run_out_of_descriptors(store: Store) -> None:
    deep = [file("/".join(f"d{index}-{level}" for level in range(100)) + "/x", "x") for index in range(20)]
    links = [hard_link(f"rootfs/l{index}/x", deep[index][0].name) for index in range(20)]
    root = tree(store, add(store, "a", *deep, *links))
    assert (root / "l19/x").read_text() == "x"


def _render(data: str, key: str, results: multiprocessing.Queue[str]) -> None:
    results.put(TreeStore(Store(data)).render(key))


def test_concurrent_rendering_of_one_image(store: Store) -> None:
    key = add(store, "a", *(file(f"f{index}", "x" * 10_000) for index in range(200)))
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_render, args=(store.data_directory, key, results)) for _ in range(4)]
    for process in processes:
        process.start()
    (tree_id,) = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    TreeStore(store).check(tree_id)
    assert len(names(Path(TreeStore(store).rootfs(tree_id)))) == 200


components = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(os.fsencode(name)) < 200
)
nested = st.recursive(
    st.binary(max_size=3000) | st.text("abc/", min_size=1, max_size=9).map(lambda target: "/" + target),
    lambda inner: st.dictionaries(components, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(components, nested, max_size=4), st.sampled_from(["gzip", "none"]))
def test_any_tree_comes_back_as_it_was(content: dict[str, Any], compression: str) -> None:
    """dict: a directory, bytes: a file, str: a symlink."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        _plant(source, content)
        image = str(Path(scratch, "image.aci"))
        written = write_archive(str(source), parse_image_manifest(manifest_bytes()), image, compression=compression)
        store = Store(str(Path(scratch, "data")))
        key = import_image(store, image, verified=True)
        assert key == written.image_id
        assert _harvest(tree(store, key)) == content


def _plant(path: Path, content: dict[str, Any]) -> None:
    path.mkdir()
    for name, value in content.items():
        if isinstance(value, dict):
            _plant(path / name, value)
        elif isinstance(value, bytes):
            (path / name).write_bytes(value)
        else:
            os.symlink(value, path / name)


def _harvest(path: Path) -> dict[str, Any]:
    return {
        entry.name: os.readlink(entry.path)
        if entry.is_symlink()
        else _harvest(Path(entry.path))
        if entry.is_dir()
        else Path(entry.path).read_bytes()
        for entry in os.scandir(path)
    }
