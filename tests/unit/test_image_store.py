"""The image store: what goes in, what is found, what is refused, and what is left behind (nothing)."""

from __future__ import annotations

import fcntl
import gzip
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from appc.app import Label
from appc.compression import Limits
from appc.errors import ArchiveError, UserError
from appc.image_id import is_key
from stage0.image_import import import_image
from stage0.image_reference import HASH, NAME, PATH, kind_of_reference, parse_image_name
from stage0.store import ImageNotFound, Store
from unit.image_making import image_bytes, manifest_bytes, member, symlink, write_image
from unit.test_archive_hostile import REFUSED


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"))


def add(store: Store, directory: Path, **changes: object) -> str:
    path = write_image(directory / "image.aci", (member("rootfs/hello"), b"hello"), manifest=manifest_bytes(**changes))
    return import_image(store, path, verified=True)


def labels(version: str, **more: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in {"version": version, "os": "linux", "arch": "amd64", **more}.items()]


def files(store: Store) -> list[str]:
    return sorted(str(path.relative_to(store.directory)) for path in Path(store.directory).rglob("*") if path.is_file())


def test_an_image_is_where_rkt_has_it(store: Store, tmp_path: Path) -> None:
    plain = image_bytes((member("rootfs/hello"), b"hello"))
    (tmp_path / "a.aci").write_bytes(gzip.compress(plain))
    key = import_image(store, str(tmp_path / "a.aci"), verified=True)
    shard = key[7:9]
    assert is_key(key)
    assert files(store) == sorted(
        [f"blob/sha512/{shard}/{key}", f"imageManifest/sha512/{shard}/{key}", f"imagelocks/{key}", f"index/{key}"],
    )
    assert Path(store.blob_path(key)).read_bytes() == plain
    assert os.stat(store.blob_path(key)).st_mode & 0o777 == 0o660
    image = store.image(key)
    assert (image.name, image.size, image.tree_size) == ("example.com/app", len(plain), 0)
    assert store.manifest_text(key).startswith('{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app","labels":[{')
    # The same image packed differently is the same image.
    (tmp_path / "b.aci").write_bytes(plain)
    assert import_image(store, str(tmp_path / "b.aci"), verified=True) == key
    assert len(store.images()) == 1


def test_unsigned_files_need_the_insecure_option(store: Store, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.aci")
    with pytest.raises(UserError, match=r"a\.aci.*--insecure-options=image"):
        import_image(store, path, verified=False)
    assert not os.path.exists(store.directory)


def hostile(kind: str, outside: Path) -> bytes:
    """An image file of that kind: those of test_archive_hostile, and what is no archive at all or of no image."""
    if kind in REFUSED:
        members = REFUSED[kind][0]
        return gzip.compress(image_bytes(*(members if isinstance(members, list) else [members])), compresslevel=1)
    return {
        "below a link to outside": image_bytes(symlink("rootfs/a", str(outside)), (member("rootfs/a/x"), b"x")),
        "truncated": gzip.compress(image_bytes((member("rootfs/a"), os.urandom(100_000))))[:50_000],
        "manifest": image_bytes(manifest=b'{"acKind": "ImageManifest"}'),
        "no manifest": image_bytes(member("rootfs/a"), manifest=b""),
        "bomb": gzip.compress(image_bytes((member("rootfs/zeros"), bytes(30_000_000))), compresslevel=9),
        "members": image_bytes(*(member(f"rootfs/{number}") for number in range(3000))),
        "text": b"hello",
    }[kind]


@pytest.mark.parametrize("kind", [*REFUSED, "below a link to outside", "truncated", "manifest", "no manifest", "bomb", "members", "text"])
def test_nothing_is_left_of_a_refused_image(kind: str, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "evil.aci").write_bytes(hostile(kind, outside))
    with pytest.raises(UserError, match=r"evil\.aci") as caught:
        import_image(store, str(tmp_path / "evil.aci"), verified=True, limits=Limits(size=20_000_000, members=1000))
    assert "\n" not in str(caught.value)
    assert files(store) == []
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "evil.aci", "outside"]
    assert store.images() == []


def test_lookup_by_id(store: Store, tmp_path: Path) -> None:
    keys = [add(store, tmp_path, name=f"example.com/app{index}") for index in range(3)]
    for key in keys:
        assert store.resolve(key) == key
        assert store.resolve(key + "ffff") == key
        assert store.resolve(key[:20]) == key
    with pytest.raises(ImageNotFound, match="no image IDs found"):
        store.resolve("sha512-" + "0" * 64)
    with pytest.raises(UserError, match="image ID too short"):
        store.resolve("sha512-a")


def test_a_prefix_of_several_images_is_ambiguous(store: Store, tmp_path: Path) -> None:
    seen: set[str] = set()
    prefix = ""
    for index in range(257):
        prefix = add(store, tmp_path, name=f"example.com/app{index}")[:9]
        if prefix in seen:
            break
        seen.add(prefix)
    with pytest.raises(UserError, match=f'ambiguous image ID: "{prefix}"'):
        store.resolve(prefix)


def test_an_id_is_never_a_path(store: Store, tmp_path: Path) -> None:
    add(store, tmp_path)
    with pytest.raises(UserError):
        store.resolve("sha512-../../../../../../../../../../../../../../../../../../../../../../etc/passwd")


def test_lookup_by_name_takes_the_last_import_that_has_all_labels(store: Store, tmp_path: Path) -> None:
    first = add(store, tmp_path, labels=labels("1.0.0"))
    second = add(store, tmp_path, labels=labels("2.0.0", channel="beta"))
    assert store.resolve("example.com/app") == second
    assert store.resolve("example.com/app:1.0.0") == first
    assert store.resolve("example.com/app:2.0.0,channel=beta") == second
    assert add(store, tmp_path, labels=labels("1.0.0")) == first
    assert store.resolve("example.com/app") == first
    for wrong, message in (
        ("example.com/app:3", 'satisfying name: "example.com/app" and labels'),
        ("example.com/app,channel=stable", "cannot find"),
        ("Example.com/app", "ACIdentifier must contain only lower case"),
        ("a:b:c", "at most once"),
        ("a,b", "label without a value"),
        ("a,b=c:d", "right after the app name"),
    ):
        with pytest.raises(UserError, match=message):
            store.resolve(wrong)


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").touch()
    assert kind_of_reference("sha512-abc") == (HASH, "sha512-abc")
    assert kind_of_reference("plain") == (PATH, "plain")
    assert kind_of_reference("./x.aci") == (PATH, "./x.aci")
    assert kind_of_reference("x.aci") == (PATH, "x.aci")
    assert kind_of_reference("file:///x/y.aci") == (PATH, "/x/y.aci")
    assert kind_of_reference("x.aci:1") == (NAME, "x.aci:1")
    assert kind_of_reference("example.com/app") == (NAME, "example.com/app")
    for remote in ("docker://redis", "https://example.com/x.aci", "file:///x.txt"):
        with pytest.raises(UserError, match=remote):
            kind_of_reference(remote)
    name, found = parse_image_name("a/b:1,x=y=z")
    assert (name, found) == ("a/b", (("version", "1"), ("x", "y=z")))


def test_removed_is_removed(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    store.remove(key)
    assert files(store) == []
    with pytest.raises(ImageNotFound):
        store.remove(key)
    with pytest.raises(ImageNotFound):
        store.manifest(key)


def test_a_damaged_index_entry_says_what_to_do(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    entry = Path(store.directory, "index", key)
    entry.write_text("{")
    with pytest.raises(UserError, match=f"{key}.*fetch the image again"):
        store.image(key)
    Path(store.manifest_path(key)).write_text('{"acKind":"ImageManifest"}')
    with pytest.raises(UserError, match=f"{key} is damaged.*fetch the image again"):
        store.manifest(key)
    assert add(store, tmp_path) == key  # which mends both
    assert store.image(key).name == store.manifest(key).name == "example.com/app"


def test_a_manifest_that_was_changed_is_no_ones(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    path = Path(store.manifest_path(key))
    sound = path.read_text()
    path.write_text(sound.replace("/bin/hello", "/bin/other"))
    for read in (store.manifest, store.manifest_text):
        with pytest.raises(UserError, match=f"manifest of image {key} is damaged.*fetch the image again"):
            read(key)
    store.set_tree_size(key, 5)  # which writes the entry anew, and leaves that in it
    with pytest.raises(UserError, match="damaged"):
        store.manifest(key)
    assert add(store, tmp_path) == key
    assert store.manifest_text(key) == sound


def test_entries_from_before_manifests_were_hashed_are_read(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    path = Path(store.directory, "index", key)
    entry = json.loads(path.read_text())
    del entry["manifestHash"]
    path.write_text(json.dumps(entry))
    assert store.manifest(key).name == "example.com/app"


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"name": 1}', "[" * 100_000, "WRONG TYPES"], ids=lambda text: text[:20])
def test_a_damaged_index_entry_does_not_hide_other_images(text: str, store: Store, tmp_path: Path) -> None:
    damaged, sound = add(store, tmp_path, labels=labels("1")), add(store, tmp_path, labels=labels("2"))
    entry = Path(store.directory, "index", damaged)
    wrong = {"name": "example.com/app", "labels": [["version", 1]], "importTime": "1", "size": 1, "treeSize": 1, "latest": False}
    entry.write_text(json.dumps(wrong) if text == "WRONG TYPES" else text)
    assert store.find("example.com/app") == sound
    with pytest.raises(UserError, match=f"{damaged} is damaged"):
        store.find("example.com/app", [Label(name="version", value="1")])


def test_nothing_is_left_of_an_import_that_fails_at_its_end(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    store.remove(key)
    Path(store.manifest_path(key)).parent.rmdir()
    Path(store.manifest_path(key)).parent.touch()  # no room for the manifest
    with pytest.raises(OSError):
        add(store, tmp_path)
    assert files(store) == [f"imageManifest/sha512/{key[7:9]}"]


def test_scratch_files_of_the_dead_go_with_the_next_import(store: Store, tmp_path: Path) -> None:
    Path(store.temporary).mkdir(parents=True)
    dead, alive, locked = (Path(store.temporary, f"import.{number}.1") for number in (999999999, os.getpid(), 999999998))
    for path in (dead, alive, locked):
        path.touch()
    with locked.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        add(store, tmp_path)
    assert sorted(Path(store.temporary).iterdir()) == sorted([alive, locked])


def test_strays_are_removed_and_images_are_not(store: Store, tmp_path: Path) -> None:
    key = add(store, tmp_path)
    sound = files(store)
    stray = f"sha512-{'ab' * 32}"
    for path in (store.blob_path(stray), store.manifest_path(stray)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    store.remove_strays()
    assert files(store) == sound
    assert store.has(key)


def _import(data: str, path: str, results: multiprocessing.Queue[str]) -> None:
    results.put(import_image(Store(data), path, verified=True))


def test_concurrent_imports_of_one_image(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.aci", (member("rootfs/random"), os.urandom(3_000_000)))
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    data = str(tmp_path / "data")
    processes = [context.Process(target=_import, args=(data, path, results)) for _ in range(6)]
    for process in processes:
        process.start()
    keys = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    store = Store(data)
    (key,) = keys
    assert [image.key for image in store.images()] == [key]
    assert Path(store.blob_path(key)).read_bytes() == Path(path).read_bytes()
    assert not list(Path(store.temporary).iterdir())


def test_a_directory_or_missing_file_is_one_line(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.aci")
    for path in (str(tmp_path), str(tmp_path / "missing.aci"), str(tmp_path / "fifo.aci"), "/dev/null"):
        with pytest.raises(UserError) as caught:
            import_image(store, path, verified=True)
        assert path in str(caught.value)
        assert not isinstance(caught.value, ArchiveError)
