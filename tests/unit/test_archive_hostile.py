"""Hostile and broken archives: each is refused with one clear error that names the member."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appc.archive import open_archive
from appc.compression import Limits
from appc.errors import ArchiveError
from unit.image_making import directory, hard_link, image_bytes, manifest_bytes, member, symlink, write_image

HELLO = (member("rootfs/hello"), b"hello")

REFUSED = {
    "parent directory": ((member("rootfs/../../etc/passwd"), b"x"), r'"rootfs/\.\./\.\./etc/passwd" has "\.\."'),
    "absolute name": ((member("/etc/passwd"), b"x"), r'"/etc/passwd" has an absolute name'),
    "dots outside": ((member("../x"), b"x"), r'"\.\./x" has "\.\."'),
    "below a symlink": (
        [symlink("rootfs/a", "/etc"), (member("rootfs/a/passwd"), b"x")],
        r'"rootfs/a/passwd" lies below "rootfs/a", which is a sym',
    ),
    "below a deeper symlink": ([symlink("rootfs/a", "/"), (member("rootfs/a/b/c"), b"x")], r'"rootfs/a/b/c" lies below "rootfs/a"'),
    "below a file": ([HELLO, (member("rootfs/hello/x"), b"x")], r'lies below "rootfs/hello", which is a file'),
    "below a hard link": ([HELLO, hard_link("rootfs/h", "rootfs/hello"), member("rootfs/h/x")], "which is a hard link"),
    "rootfs is a symlink": ([symlink("./rootfs/", "/")], r'"rootfs" is there twice'),
    "directory becomes a symlink": (
        [member("rootfs/a/b"), symlink("rootfs/a", "/etc")],
        r'"rootfs/a" has members below it but is no directory',
    ),
    "symlink climbs out": ([symlink("rootfs/a/link", "../../etc")], r'"rootfs/a/link" is a symlink to "\.\./\.\./etc", which leaves'),
    "symlink climbs out later": ([symlink("rootfs/link", "a/../../x")], "which leaves the image"),
    "symlink to nothing": ([symlink("rootfs/link", "")], "without a usable target"),
    "hard link outside": ([hard_link("rootfs/h", "../../etc/shadow")], r'hard link to "\.\./\.\./etc/shadow"'),
    "absolute hard link": ([hard_link("rootfs/h", "/etc/shadow")], r'hard link to "/etc/shadow".*absolute'),
    "hard link to the manifest": ([hard_link("rootfs/h", "manifest")], "outside of the image"),
    "hard link to nothing": ([hard_link("rootfs/h", "rootfs/later")], "no earlier file"),
    "hard link through a symlink": ([symlink("rootfs/a", "/etc"), hard_link("rootfs/h", "rootfs/a/shadow")], "no earlier file"),
    "hard link to a directory": ([directory("rootfs/d"), hard_link("rootfs/h", "rootfs/d")], "no earlier file"),
    "hard link to itself": ([hard_link("rootfs/h", "rootfs/h")], "no earlier file"),
    "character device": ([member("rootfs/dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)], r'"rootfs/dev/null" is a character device'),
    "block device": ([member("rootfs/sda", tarfile.BLKTYPE, devmajor=8)], r'"rootfs/sda" is a block device'),
    "duplicate": ([HELLO, (member("rootfs/./hello"), b"other")], r'"rootfs/hello" is there twice'),
    "duplicate directory": ([directory("rootfs/d"), directory("rootfs/d/")], r'"rootfs/d" is there twice'),
    "two manifests": ([(member("./manifest"), manifest_bytes())], r'"manifest" is there twice'),
    "unknown type": ([member("rootfs/x", b"Z")], r'"rootfs/x" has the unknown type'),
    "sparse": ([member("rootfs/x", tarfile.REGTYPE, pax_headers={"GNU.sparse.major": "1"})], r'"rootfs/x" is a sparse file'),
    "name too long": ([member("rootfs/" + "n" * 256)], "name that is too long"),
    "too deep": ([member("rootfs/" + "d/" * 300 + "x")], "deeper than"),
    "owner out of range": ([member("rootfs/x", pax_headers={"uid": "99999999999"})], r'"rootfs/x" has an owner that is out of range'),
    "no owner": ([member("rootfs/x", pax_headers={"gid": str(2**32 - 1)})], r'"rootfs/x" has an owner that is out of range'),
    "attribute with NUL": (
        [member("rootfs/x", pax_headers={"SCHILY.xattr.user.a\0b": "v"})],
        r'attribute "user\.a.*which no file can have',
    ),
    "attribute without a name": ([member("rootfs/x", pax_headers={"SCHILY.xattr.user.": "v"})], r'attribute "user\."'),
    "attribute too large": ([member("rootfs/x", pax_headers={"SCHILY.xattr.user.a": "v" * 65537})], r'attribute "user\.a"'),
    "a time that no file has": (
        [member("rootfs/x", mtime=2**62)],
        "mtime is (out of range|no number)",
    ),
    "negative size": ([member("rootfs/x", pax_headers={"size": "-5"})], "size is no number"),
}


def read(path: str, **rules: object) -> list[str]:
    with open_archive(path, **rules) as archive:  # type: ignore[arg-type]
        return [found.name for found in archive]


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_members_name(case: str, tmp_path: Path) -> None:
    members, message = REFUSED[case]
    path = write_image(tmp_path / "evil.aci", *(members if isinstance(members, list) else [members]))
    with pytest.raises(ArchiveError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_names_cannot_run_over_the_terminal(tmp_path: Path) -> None:
    for evil in (member("rootfs/\x1b[2J\n../x", b"Z"), member("rootfs/\x1b[2J\n/../x"), symlink("rootfs/\x1b[2J\n", "../..")):
        with pytest.raises(ArchiveError) as caught:
            read(write_image(tmp_path / "evil.aci", evil))
        assert str(caught.value).isprintable() and "x1b[2J" in str(caught.value)


def test_what_ordinary_images_have_is_accepted(tmp_path: Path) -> None:
    path = write_image(
        tmp_path / "good.aci",
        directory("./"),
        directory("rootfs/bin"),
        (member("./rootfs/bin/busybox"), b"busybox"),
        symlink("rootfs/bin/sh", "/bin/busybox"),
        symlink("rootfs/bin/up", "../bin/busybox"),
        hard_link("rootfs/bin/ls", "./rootfs/bin/busybox"),
        member("rootfs/run/fifo", tarfile.FIFOTYPE),
        directory("rootfs/run"),
        (member("README"), b"outside of rootfs, as rkt allows"),
    )
    assert read(path) == ["rootfs", *(f"rootfs/{name}" for name in ("bin", "bin/busybox", "bin/sh", "bin/up", "bin/ls", "run/fifo", "run"))]


@pytest.mark.parametrize(
    ("major", "minor"),
    [(b"\0\0\x01\0\0\0\0", b"\0" * 7), (b"\0" * 7, b"\0\0\x7f\0\0\0\0"), (b"\0" * 7, b"\xff" * 7)],
    ids=["major", "minor", "as large as can be"],
)
def test_a_device_number_that_linux_does_not_have(tmp_path: Path, major: bytes, minor: bytes) -> None:
    """In base 256, where any number fits."""
    data = bytearray(image_bytes(member("rootfs/null", tarfile.CHRTYPE)))
    start = data.index(b"rootfs/null")
    data[start + 329 : start + 345] = b"\x80" + major + b"\x80" + minor
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    (tmp_path / "a.aci").write_bytes(data)
    with pytest.raises(ArchiveError, match="device number is out of range"):
        read(str(tmp_path / "a.aci"), devices=True)


def test_devices_where_they_are_expected(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.aci", member("rootfs/null", tarfile.CHRTYPE, devmajor=1, devminor=3))
    assert read(path, devices=True) == ["rootfs", "rootfs/null"]


def test_long_names_of_gnu_tar(tmp_path: Path) -> None:
    name = "rootfs/" + "/".join(["directory"] * 30)
    data = image_bytes((member(name), b"x"), symlink("rootfs/l", "t" * 200), form=tarfile.GNU_FORMAT)
    (tmp_path / "a.aci").write_bytes(data)
    assert read(str(tmp_path / "a.aci")) == ["rootfs", name, "rootfs/l"]


def test_manifest_rules(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no manifest"):
        read(write_image(tmp_path / "none.aci", HELLO, manifest=b""))
    with pytest.raises(ArchiveError, match="manifest is a symlink"):
        read(write_image(tmp_path / "link.aci", symlink("manifest", "rootfs/x"), manifest=b""))
    with pytest.raises(ArchiveError, match="manifest has 10000 bytes, 100 are allowed"):
        read(write_image(tmp_path / "large.aci", manifest=b" " * 10_000), limits=Limits(manifest=100))


@pytest.mark.slow
def test_bombs(tmp_path: Path) -> None:
    plain = image_bytes((member("rootfs/zeros"), bytes(20_000_000)))
    (tmp_path / "bomb.aci").write_bytes(gzip.compress(plain))
    with pytest.raises(ArchiveError, match="larger than allowed"):
        read(str(tmp_path / "bomb.aci"), limits=Limits(size=1_000_000))
    with pytest.raises(ArchiveError, match="more than 5 members"):
        read(write_image(tmp_path / "many.aci", *(member(f"rootfs/{n}") for n in range(9))), limits=Limits(members=5))
    deep = write_image(tmp_path / "deep.aci", member("rootfs/" + "d/" * 100 + "x"))
    with pytest.raises(ArchiveError, match="more than 50 members"):
        read(deep, limits=Limits(members=50))
    with pytest.raises(ArchiveError, match="more than 5000 characters"):
        read(deep, limits=Limits(names=5000))
    # 300 MB of zeros in a few hundred kilobytes: the ratio gives it away.
    with gzip.open(tmp_path / "zeros.aci", "wb", compresslevel=1) as out:
        out.write(plain[:1024])
        for _ in range(300):
            out.write(bytes(1_000_000))
    with pytest.raises(ArchiveError, match="decompression bomb"):
        read(str(tmp_path / "zeros.aci"), limits=Limits(ratio=10))


@pytest.mark.parametrize(
    "content",
    [b"", b"#!/bin/sh\n", b"\x28\xb5\x2f\xfd" + bytes(600), b"PK\x03\x04" + bytes(600), bytes(2048)],
    ids=["empty", "script", "zstd", "zip", "zeros"],
)
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.aci").write_bytes(content)
    with pytest.raises(ArchiveError, match="unknown image filetype"):
        read(str(tmp_path / "a.aci"))
    with pytest.raises(ArchiveError, match="No such file"):
        read(str(tmp_path / "missing.aci"))


def test_something_after_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.aci").write_bytes(image_bytes(HELLO) + image_bytes(HELLO))
    with pytest.raises(ArchiveError, match="after its end marker"):
        read(str(tmp_path / "a.aci"))


PLAIN = image_bytes(directory("rootfs/d"), HELLO, symlink("rootfs/l", "hello"), hard_link("rootfs/h", "rootfs/hello"))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, position: int, change: int) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.aci"
    damaged = bytearray(PLAIN)
    damaged[position] ^= change
    path.write_bytes(damaged)
    try:
        names = read(str(path))
    except ArchiveError:
        return
    assert all(name == "rootfs" or name.startswith("rootfs/") for name in names)
