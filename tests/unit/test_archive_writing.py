"""Image archives written: the same bytes each time, and what actool makes of them and we of actool's."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appc import compression, gzip_blocks
from appc.archive import open_archive, write_archive
from appc.errors import ArchiveError
from appc.image import parse_image_manifest
from appc.tar import XATTR_RECORD, Header, header_blocks
from small_programs import needs_actool
from unit.image_making import manifest_bytes

MANIFEST = parse_image_manifest(manifest_bytes())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A rootfs with one of each kind that anybody may make."""
    root = tmp_path / "tree" / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "bin/hello").write_text("#!/bin/sh\necho hello\n")
    (root / "bin/hello").chmod(0o4755)
    os.link(root / "bin/hello", root / "zweiter Name")
    (root / "empty").touch()
    (root / "big").write_bytes(os.urandom(70_000) * 20)
    (root / "link").symlink_to("/bin/hello")
    os.mkfifo(root / "pipe")
    long = root / ("d" * 120) / ("ü" * 60)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_text("long")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return root


def members(path: Path) -> dict[str, tuple[str, int, int, str]]:
    with open_archive(str(path)) as archive:
        return {member.name: (member.kind, member.mode, member.size, member.link) for member in archive}


def test_same_tree_same_bytes_wherever_it_lies(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copy", symlinks=True, copy_function=shutil.copy2, ignore=shutil.ignore_patterns("pipe", "zweiter*"))
    os.mkfifo(tmp_path / "copy/pipe")
    os.link(tmp_path / "copy/bin/hello", tmp_path / "copy/zweiter Name")
    for path in [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    first = write_archive(str(tree), MANIFEST, str(tmp_path / "a.aci"), owner=(0, 0), latest_mtime=1_500_000_000)
    second = write_archive(str(tmp_path / "copy"), MANIFEST, str(tmp_path / "b.aci"), owner=(0, 0), latest_mtime=1_500_000_000)
    assert first == second
    assert (tmp_path / "a.aci").read_bytes() == (tmp_path / "b.aci").read_bytes()


def test_what_is_in_it(tree: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tree / "s"))
        written = write_archive(str(tree), MANIFEST, str(tmp_path / "a.aci"), owner=(3, 2**22))
    with tarfile.open(tmp_path / "a.aci") as archive:
        found = archive.getmembers()
        names = [info.name for info in found]
        assert names[0] == "rootfs" and names[-1] == "manifest"
        assert names[:-1] == sorted(names[:-1], key=lambda name: os.fsencode(name).split(b"/"))
        assert {(info.uid, info.gid, info.uname, info.gname) for info in found} == {(3, 2**22, "", "")}
        assert {info.mtime for info in found[:-1] if info.name != "rootfs"} == {1_600_000_000}
        assert archive.getmember("rootfs/bin/hello").mode == 0o4755
        assert archive.getmember("rootfs/zweiter Name").linkname == "rootfs/bin/hello"
        assert archive.getmember("rootfs/link").linkname == "/bin/hello"
        long = archive.extractfile("rootfs/" + "d" * 120 + "/" + "ü" * 60 + "/" + "f" * 200)
        assert long is not None and long.read() == b"long"
        assert "rootfs/s" not in names
    with open_archive(str(tmp_path / "a.aci")) as archive_read:
        assert len(list(archive_read)) == written.members
        assert parse_image_manifest(archive_read.manifest) == MANIFEST
        assert archive_read.image_id() == written.image_id


def test_bytes_do_not_depend_on_the_size_of_pieces(tmp_path: Path) -> None:
    data = os.urandom(1000) * 10_000
    for name, step in (("a", 999), ("b", 1 << 20), ("c", len(data))):
        with open(tmp_path / name, "wb") as out:
            blocks = gzip_blocks.GzipBlocks(out)
            for start in range(0, len(data), step):
                blocks.write(data[start : start + step])
            blocks.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert gzip.decompress((tmp_path / "a").read_bytes()) == data


@needs_actool
def test_actool_validates_what_is_written(tree: Path, tmp_path: Path) -> None:
    for compression_name in ("gzip", "none"):
        write_archive(str(tree), MANIFEST, str(tmp_path / "a.aci"), compression=compression_name)
        done = subprocess.run(["actool", "--debug", "validate", tmp_path / "a.aci"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(["actool", "cat-manifest", tmp_path / "a.aci"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "example.com/app"


@needs_actool
def test_what_actool_builds_is_read(tree: Path, tmp_path: Path) -> None:
    (tree.parent / "manifest").write_bytes(manifest_bytes())
    subprocess.run(["actool", "build", tree.parent, tmp_path / "theirs.aci"], check=True)
    write_archive(str(tree), MANIFEST, str(tmp_path / "ours.aci"))
    ours, theirs = members(tmp_path / "ours.aci"), members(tmp_path / "theirs.aci")
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes], ids=["gzip", "bzip2", "xz", "tar"])
def test_each_compression_is_read_whole_and_damaged(tree: Path, tmp_path: Path, pack: object) -> None:
    write_archive(str(tree), MANIFEST, str(tmp_path / "plain"), compression="none")
    plain = (tmp_path / "plain").read_bytes()
    packed = pack(plain)  # type: ignore[operator]
    (tmp_path / "a.aci").write_bytes(packed)
    assert members(tmp_path / "a.aci") == members(tmp_path / "plain")
    cuts = [len(packed) - 1200, len(packed) // 2, 700] + ([] if packed == plain else [len(packed) - 1])
    for cut in cuts:
        (tmp_path / "cut.aci").write_bytes(packed[:cut])
        with pytest.raises(ArchiveError, match=r"cut\.aci.*(truncated|damaged)"):
            members(tmp_path / "cut.aci")
    if packed != plain:
        (tmp_path / "bad.aci").write_bytes(packed[: len(packed) // 2] + b"\x55\xaa\x55" + packed[len(packed) // 2 + 3 :])
        with pytest.raises(ArchiveError, match=r"damaged|truncated"):
            members(tmp_path / "bad.aci")
        (tmp_path / "twice.aci").write_bytes(pack(plain[:5000]) + pack(plain[5000:]))  # type: ignore[operator]
        assert members(tmp_path / "twice.aci") == members(tmp_path / "plain")


def test_gzip_without_isal(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    write_archive(str(tree), MANIFEST, str(tmp_path / "a.aci"))
    assert type(compression._decompressor("gzip")).__name__ == "_ZlibGzip"
    assert "rootfs/big" in members(tmp_path / "a.aci")
    packed = (tmp_path / "a.aci").read_bytes()
    (tmp_path / "cut.aci").write_bytes(packed[:-5])
    with pytest.raises(ArchiveError, match="truncated"):
        members(tmp_path / "cut.aci")


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs/log").write_text("x" * 100)
    original = os.scandir

    def growing(path: str) -> object:
        entries = list(original(path))
        for entry in entries:
            entry.stat(follow_symlinks=False)
            with open(entry.path, "a") as file:
                file.write("more")

        class Scan:
            def __enter__(self) -> list[os.DirEntry[str]]:
                return entries

            def __exit__(self, *_: object) -> None:
                pass

        return Scan()

    monkeypatch.setattr(os, "scandir", growing)
    with pytest.raises(ArchiveError, match="changed while"):
        write_archive(str(tmp_path / "rootfs"), MANIFEST, str(tmp_path / "a.aci"))


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300)


@settings(max_examples=50)
@given(
    name=names.filter(lambda name: not name.endswith("/")),
    link=names,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    value=st.binary(max_size=50),
)
def test_any_header_is_read_by_tarfile_as_it_was_written(name: str, link: str, mode: int, uid: int, value: bytes) -> None:
    blocks = header_blocks(Header(name=name, kind="symlink", link=link, mode=mode, uid=uid, gid=uid, xattrs={"user.x": value}))
    with tarfile.open(fileobj=io.BytesIO(blocks + bytes(1024)), mode="r:", errors="surrogateescape") as archive:
        (info,) = archive.getmembers()
    assert (info.name, info.linkname, info.mode, info.uid, info.gid) == (name, link, mode, uid, uid)
    assert info.pax_headers[XATTR_RECORD + "user.x"].encode("utf-8", "surrogateescape") == value
