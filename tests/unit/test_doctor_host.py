"""`skim doctor`: storage, space, and what is around Docker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from doctor_trees import by_id, mountinfo, probe
from engine.doctor import space, storage, surroundings
from engine.doctor.finding import Check
from engine.doctor.probe import FileSystem
from engine.doctor.settings import Settings
from engine.doctor.space import Place
from engine.doctor.storage import Storage
from engine.doctor.units import Unit, Units
from linux.files import entry_types

GIB = 1 << 30
EXT4 = FileSystem("/", "ext4", "rw", total=100 * GIB, free=50 * GIB, inodes=1000000, inodes_free=900000)
GOOD = Storage("/var/lib/docker", True, True, EXT4, True, ("overlay2",), False)


def stored(facts: Storage, version: str = "26.1.5", **keys: object) -> dict[str, Check]:
    return by_id(storage.checks(facts, Settings(keys=keys), version))


def test_storage_that_is_good() -> None:
    assert {check.status for check in stored(GOOD).values()} == {"ok"}


@pytest.mark.parametrize(
    ("fstype", "status"),
    [("xfs", "ok"), ("btrfs", "ok"), ("overlay", "error"), ("nfs4", "error"), ("fuse.sshfs", "error"), ("tmpfs", "note"), ("jfs", "note")],
)
def test_file_systems_of_the_data_root(fstype: str, status: str) -> None:
    assert stored(GOOD._replace(filesystem=EXT4._replace(fstype=fstype)))["storage.data-root"].status == status


def test_a_file_system_without_overlays_is_an_error_only_for_who_needs_them() -> None:
    fresh = GOOD._replace(filesystem=EXT4._replace(fstype="overlay"), drivers=())
    assert stored(fresh)["storage.data-root"].status == "warning"
    assert stored(fresh, **{"storage-driver": "overlay2"})["storage.data-root"].status == "error"
    assert stored(fresh, **{"storage-driver": "vfs"})["storage.data-root"].status == "ok"


def test_xfs_without_d_type() -> None:
    found = stored(GOOD._replace(filesystem=EXT4._replace(fstype="xfs"), types=False))["storage.d-type"]
    assert found.status == "error" and "mkfs.xfs -n ftype=1" in found.do


def test_read_only_and_relative_data_roots() -> None:
    assert stored(GOOD._replace(filesystem=EXT4._replace(read_only=True)))["storage.data-root"].status == "error"
    assert stored(GOOD._replace(root="docker"))["storage.data-root"].status == "error"
    assert stored(GOOD._replace(is_directory=False))["storage.data-root"].status == "error"


@pytest.mark.parametrize(
    ("driver", "version", "left", "status"),
    [
        ("devicemapper", "24.0.7", (), "ok"),
        ("devicemapper", "25.0.0", (), "error"),
        ("aufs", "20.10.24", (), "ok"),
        ("overlay", "26.1.5", (), "error"),
        ("overlay3", "26.1.5", (), "error"),
        ("vfs", "26.1.5", (), "warning"),
        ("", "26.1.5", ("aufs",), "warning"),
        ("", "20.10.24", ("btrfs", "overlay2"), "error"),
        ("overlay2", "20.10.24", ("btrfs", "overlay2"), "ok"),
        ("", "26.1.5", ("overlay2", "vfs"), "ok"),
    ],
)
def test_storage_drivers(driver: str, version: str, left: tuple[str, ...], status: str) -> None:
    assert stored(GOOD._replace(drivers=left), version, **{"storage-driver": driver})["storage.driver"].status == status


def test_the_data_root_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    files = {
        "/proc/self/mountinfo": mountinfo("/ ext4", "/srv xfs", "/srv btrfs"),
        "/srv/other/": "",
        "/var/lib/docker/overlay2/l/": "",
        "/var/lib/docker/btrfs/": "",
    }
    facts = storage.gather(probe(tmp_path, files), Settings(keys={"data-root": "/srv/docker"}))
    assert (facts.present, facts.filesystem.fstype, facts.filesystem.target, facts.types) == (False, "btrfs", "/srv", True)
    facts = storage.gather(probe(tmp_path), Settings())
    assert facts.present and facts.drivers == ("overlay2",)


@pytest.mark.parametrize("root", ["docker", "x\0y", "x\ud800", "/a/../..//var/lib/docker/", 7, ["/x"]])
def test_a_data_root_that_is_no_path(tmp_path: Path, root: object) -> None:
    told = Settings(keys={"data-root": root})
    by_id(storage.checks(storage.gather(probe(tmp_path), told), told, ""))


def test_a_data_root_that_leads_elsewhere_by_a_link(tmp_path: Path) -> None:
    files = {"/proc/self/mountinfo": mountinfo("/ ext4", "/srv xfs"), "/srv/docker/": "", "/var/lib/docker": f"->{tmp_path}/srv/docker"}
    assert storage.gather(probe(tmp_path, files), Settings()).filesystem.fstype == "xfs"


def test_an_automount_point_is_not_woken(tmp_path: Path) -> None:
    facts = storage.gather(probe(tmp_path, {"/proc/self/mountinfo": mountinfo("/ ext4", "/var/lib/docker autofs")}), Settings())
    assert facts.filesystem.total == 0
    assert [check.id for check in storage.checks(facts, Settings(), "")] == ["storage.data-root"]


def test_types_of_entries(tmp_path: Path) -> None:
    assert entry_types(str(tmp_path)) == []
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    assert sorted(entry_types(str(tmp_path))) == [4, 8, 10]
    with pytest.raises(NotADirectoryError):
        entry_types(str(tmp_path / "file"))
    before = len(os.listdir("/proc/self/fd"))
    entry_types(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def room(**numbers: Any) -> dict[str, Check]:
    return by_id(space.checks([Place("docker", "/d", EXT4._replace(**numbers), GIB, GIB // 16, "make room")]))


@pytest.mark.parametrize(("free", "status"), [(50 * GIB, "ok"), (GIB - 1, "warning"), (GIB // 16 - 1, "error"), (0, "error")])
def test_space(free: int, status: str) -> None:
    assert room(free=free)["space.docker"].status == status


def test_inodes() -> None:
    assert "space.docker-files" not in room()
    assert "space.docker-files" not in room(inodes=0, inodes_free=0)  # btrfs counts none
    assert room(inodes_free=9000)["space.docker-files"].status == "warning"
    assert room(inodes_free=10)["space.docker-files"].status == "error"


PROGRAMS = {f"/usr/sbin/{name}": "\x7fELF" for name in ("ip6tables", "nft", "modprobe", "xtables-nft-multi")}
PROGRAMS |= {f"/usr/bin/{name}": "\x7fELF" for name in ("flock", "ps", "git")}
PROGRAMS |= {"/usr/sbin/iptables": "->xtables-nft-multi", "/opt/skim/bin/docker": "#!/bin/sh\n", "/proc/modules": ""}
PROGRAMS |= {"/usr/local/bin/docker": "->/run/skim/docker/docker/usr/bin/docker", "/proc/sys/net/ipv4/ip_forward": "1\n"}
RUNNING = Units(
    systemd=True,
    asked=True,
    set_up=True,
    ours="/etc/systemd/system.attached",
    dockerd="/opt/skim/bin/dockerd",
    service=Unit("docker.service", active="active"),
    socket=Unit("docker.socket"),
    containerd=Unit("containerd.service"),
    program_kind="ours",
    resetting="",
)
PATH = "/usr/local/bin:/usr/bin"


def around(
    root: Path, files: Mapping[str, object], told: Settings | None = None, units: Units = RUNNING, path: str = PATH
) -> dict[str, Check]:
    host = probe(root, {**PROGRAMS, **files})
    return by_id(surroundings.checks(surroundings.gather(host, path), told or Settings(), units))


def test_programs(tmp_path: Path) -> None:
    found = around(tmp_path, {})
    assert found["host.programs"].status == "ok" and found["host.iptables-kind"].what.endswith("nft")
    for name in ("/usr/sbin/iptables", "/usr/bin/git"):
        (tmp_path / name[1:]).unlink()
    host = probe(tmp_path)
    found = by_id(surroundings.checks(surroundings.gather(host, PATH), Settings(), RUNNING))
    assert found["host.iptables"].status == "error" and found["host.git"].status == "note"
    without = by_id(surroundings.checks(surroundings.gather(host, PATH), Settings(keys={"iptables": False}), RUNNING))
    assert "host.iptables" not in without


def test_a_program_that_the_engine_brings_is_there(tmp_path: Path) -> None:
    probe(tmp_path, {**PROGRAMS, "/run/skim/engine/docker/usr/bin/git": "\x7fELF"})
    (tmp_path / "usr/bin/git").unlink()
    assert surroundings.gather(probe(tmp_path), PATH).programs["git"] == "/run/skim/engine/docker/usr/bin/git"


def test_rules_in_both_kinds_of_iptables(tmp_path: Path) -> None:
    assert around(tmp_path, {"/proc/net/ip_tables_names": "nat\nfilter\n"})["host.iptables-kind"].status == "warning"


def test_commands_in_the_way(tmp_path: Path) -> None:
    ours = tmp_path / "run/skim/docker/docker/usr/bin/docker"
    ours.parent.mkdir(parents=True)
    ours.write_text("")
    ours.chmod(0o755)
    link = {"/usr/local/bin/docker": f"->{ours}"}
    assert around(tmp_path, link)["host.command"].status == "ok"
    found = around(tmp_path, {"/usr/bin/docker": "\x7fELF", **link}, path="/usr/bin:/usr/local/bin")
    assert found["host.command"].status == "warning" and found["host.command"].what.startswith("/usr/bin/docker comes before")
    assert "/usr/bin/docker" in found["host.packages"].what
    assert "not on your PATH, /usr/bin/docker is" in around(tmp_path, {}, path="/usr/bin")["host.command"].what


def _process(number: int, name: str, cgroup: str, words: str, pids: str = "") -> dict[str, str | bytes]:
    return {
        f"/proc/{number}/comm": f"{name}\n",
        f"/proc/{number}/status": f"Name:\t{name}\nNStgid:\t{pids or number}\n",
        f"/proc/{number}/cgroup": f"0::{cgroup}\n",
        f"/proc/{number}/cmdline": words.replace(" ", "\0") + "\0",
    }


def test_other_daemons(tmp_path: Path) -> None:
    files = _process(10, "dockerd", "/system.slice/docker-rkt-x.service", "dockerd -H fd://")
    files |= _process(11, "dockerd", "/docker/abc", "dockerd", "11\t1")  # in a container of its own
    files |= _process(12, "containerd", "/system.slice/containerd-rkt-x.service", "containerd")
    assert not [name for name in around(tmp_path, files) if "other" in name]
    found = around(tmp_path, files | _process(13, "dockerd", "/user.slice", "dockerd --debug"))
    assert found["host.other-dockerd"].status == "error" and "process 13" in found["host.other-dockerd"].what
    found = around(tmp_path, _process(13, "dockerd", "/user.slice", "dockerd --data-root=/x -H unix:///y"))
    assert found["host.other-dockerd"].status == "note"
    found = around(tmp_path, _process(13, "dockerd", "/system.slice/docker.service", "dockerd"), units=RUNNING._replace(set_up=False))
    assert found["host.other-dockerd"].status == "warning"


def test_the_network_s_settings(tmp_path: Path) -> None:
    found = around(tmp_path, {"/proc/sys/net/ipv4/ip_forward": "0\n", "/proc/sys/net/bridge/bridge-nf-call-iptables": "0\n"})
    assert (found["host.forwarding"].status, found["host.bridge-filter"].status) == ("warning", "note")
    stopped = RUNNING._replace(service=Unit("docker.service", active="inactive"))
    assert around(tmp_path, {"/proc/sys/net/ipv4/ip_forward": "0\n"}, units=stopped)["host.forwarding"].status == "ok"
    assert around(tmp_path, {}, Settings(keys={"icc": False}))["host.bridge-filter"].status == "warning"


def test_security_modules(tmp_path: Path) -> None:
    found = around(tmp_path, {"/sys/module/apparmor/parameters/enabled": "Y\n", "/sys/fs/selinux/enforce": "1"})
    assert found["host.apparmor"].status == "warning" and "install the package apparmor" in found["host.apparmor"].do
    assert found["host.selinux"].status == "note" and "enforcing" in found["host.selinux"].what
    found = around(tmp_path, {"/sbin/apparmor_parser": "\x7fELF", "/sys/fs/selinux/enforce": "0"})
    assert found["host.apparmor"].status == "ok" and "permissive" in found["host.selinux"].what


def test_mount_flags() -> None:
    facts = surroundings.Surroundings(
        dict.fromkeys((*surroundings._REQUIRED, *surroundings._OPTIONAL, "apparmor_parser"), "/x"),
        "nft",
        (),
        "/x",
        True,
        True,
        (),
        (),
        True,
        "1",
        "1",
        False,
        "",
        EXT4._replace(noexec=True),
        EXT4._replace(read_only=True),
    )
    found = by_id(surroundings.checks(facts, Settings(), RUNNING))
    assert found["host.run-noexec"].status == found["host.usr-read-only"].status == "note"
