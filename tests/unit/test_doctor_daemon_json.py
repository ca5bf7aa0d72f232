"""`skim doctor`: daemon.json, the flags of docker.service, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor_trees import by_id, mountinfo, probe
from engine.doctor import cgroups, daemon_json, settings
from engine.doctor.cgroups import Cgroups
from engine.doctor.finding import Check
from engine.doctor.settings import Settings, parse_configuration, parse_flags
from engine.doctor.units import Unit

OURS = ("-H", "fd://", "--containerd=/run/containerd/containerd.sock", "$DOCKER_OPTS", "$DOCKER_CGROUPS")
UNIT = Unit("docker.service", arguments=OURS, environment_files=("/etc/default/docker",))


def look(told: Settings, *, ours: bool = True) -> dict[str, Check]:
    return by_id(daemon_json.checks(told, daemon_json.Verdict(), ours=ours))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n "debug": true,\n}\n', "line 3, column 1: a comma before }"),
        ('{\n "debug": true\n "tls": false\n}', "line 3, column 2: expecting ',' delimiter"),
        ('{\n // why\n "debug": true\n}', "line 2, column 2: a comment"),
        ('{"debug": true', "line 1, column 15: the file ends in the middle"),
        ("[]", "line 1: not an object"),
        ('{"mtu": NaN}', "NaN is no JSON"),
        ("[" * 100000, ""),
    ],
)
def test_what_is_no_json_is_told_with_its_line(text: str, problem: str) -> None:
    said, keys, _ = parse_configuration(text, "/etc/docker/daemon.json")
    assert said.startswith("/etc/docker/daemon.json: ") and problem in said and keys == {}


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_an_empty_file_is_as_good_as_none(text: str) -> None:
    assert parse_configuration(text, "x") == ("", {}, [])


def test_no_file_is_fine(tmp_path: Path) -> None:
    found = look(settings.gather(probe(tmp_path), UNIT))
    assert {check.status for check in found.values()} == {"ok"}


def test_flags_by_their_keys() -> None:
    words = ["-H", "fd://", "-Htcp://[::1]:2375", "-D", "--label=a=b", "--label", "c", "-g", "/d", "--tlsverify", "--tlscert=x", "extra"]
    flags, rest = parse_flags(words)
    assert flags == {
        "hosts": ("fd://", "tcp://[::1]:2375"),
        "debug": ("true",),
        "labels": ("a=b", "c"),
        "data-root": ("/d",),
        "tlsverify": ("true",),
        "tlscert": ("x",),
    }
    assert rest == ["extra"]


def test_variables_of_the_unit_are_read_as_systemd_does(tmp_path: Path) -> None:
    files = {"/etc/default/docker": "# opts\nDOCKER_OPTS=\"--data-root=/srv/docker --label='a b'\"\n"}
    told = settings.gather(probe(tmp_path, files), UNIT._replace(environment=("DOCKER_CGROUPS=--exec-opt native.cgroupdriver=systemd",)))
    assert told.data_root == "/srv/docker"
    assert told.flags["labels"] == ("a b",)
    assert told.option("exec-opts", "native.cgroupdriver") == ("systemd", "docker.service")


def test_a_configuration_file_that_a_flag_names(tmp_path: Path) -> None:
    files = {"/etc/default/docker": "DOCKER_OPTS=--config-file=/srv/d.json", "/srv/d.json": '{"graph": "/old"}'}
    told = settings.gather(probe(tmp_path, files), UNIT)
    assert (told.path, told.data_root) == ("/srv/d.json", "/old")


def test_a_directory_in_the_file_s_place(tmp_path: Path) -> None:
    found = look(settings.gather(probe(tmp_path, {"/etc/docker/daemon.json/": ""}), UNIT))
    assert found["daemon-json.syntax"].status == "error"


def test_a_byte_order_mark_is_left_to_the_engine(tmp_path: Path) -> None:
    told = settings.gather(probe(tmp_path, {"/etc/docker/daemon.json": b'\xef\xbb\xbf{"debug": true}'}), UNIT)
    assert (told.problem, told.keys) == ("", {"debug": True})


def test_a_key_and_a_flag_of_the_same(tmp_path: Path) -> None:
    files = {
        "/etc/default/docker": "DOCKER_OPTS=-D --storage-driver overlay2",
        "/etc/docker/daemon.json": '{"debug": true, "storage-driver": "vfs"}',
    }
    found = look(settings.gather(probe(tmp_path, files), UNIT))
    assert found["daemon-json.conflict"].status == "error" and "debug, storage-driver: both" in found["daemon-json.conflict"].what


@pytest.mark.parametrize(
    ("hosts", "options", "ours", "status"),
    [
        ('["fd://"]', "", True, "ok"),
        ('["fd://"]', "", False, "error"),
        ('["fd://"]', "-H unix:///x", True, "error"),
        ('["tcp://127.0.0.1:2375"]', "", True, "note"),
        ('["fd://", "tcp://0.0.0.0:2376"]', "", True, "warning"),
        ('["fd://", "tcp://0.0.0.0:2376"]', "--tlsverify", True, "ok"),
    ],
)
def test_where_dockerd_listens(tmp_path: Path, hosts: str, options: str, ours: bool, status: str) -> None:
    files = {"/etc/default/docker": f"DOCKER_OPTS={options}", "/etc/docker/daemon.json": f'{{"hosts": {hosts}}}'}
    assert look(settings.gather(probe(tmp_path, files), UNIT), ours=ours)["daemon-json.hosts"].status == status


def test_words_that_dockerd_does_not_take(tmp_path: Path) -> None:
    told = settings.gather(probe(tmp_path, {"/etc/default/docker": "DOCKER_OPTS=debug"}), UNIT)
    assert "debug" in look(told)["daemon-json.arguments"].what


def test_a_refusal_of_the_engine_s() -> None:
    told = Settings(present=True, keys={"data-rot": 1})
    verdict = daemon_json.Verdict(
        asked=True, refusal="unable to configure the Docker daemon with file /etc/docker/daemon.json: no such: data-rot"
    )
    found = by_id(daemon_json.checks(told, verdict, ours=True))["daemon-json.valid"]
    assert found.status == "error" and found.what.endswith("dockerd refuses it: no such: data-rot")


HYBRID = ("/sys/fs/cgroup tmpfs", "/sys/fs/cgroup/unified cgroup2", "/sys/fs/cgroup/systemd cgroup rw,name=systemd")
CONTROLLERS = tuple(
    f"/sys/fs/cgroup/{name} cgroup rw,{name}" for name in ("cpu,cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "blkio")
)


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        (("/sys/fs/cgroup cgroup2",), "v2"),
        (HYBRID + CONTROLLERS, "hybrid"),
        (HYBRID[:1] + HYBRID[2:] + CONTROLLERS, "v1"),
        (("/sys/fs/cgroup tmpfs",), "none"),
    ],
)
def test_cgroup_modes(tmp_path: Path, mounts: tuple[str, ...], mode: str) -> None:
    files = {"/proc/self/mountinfo": mountinfo(*mounts), "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}
    facts = cgroups.gather(probe(tmp_path, files))
    found = by_id(cgroups.checks(facts, Settings()))
    assert facts.mode == mode
    assert {check.status for check in found.values()} == ({"error"} if mode == "none" else {"ok"})


@pytest.mark.parametrize(
    ("mode", "driver", "status"),
    [
        ("v2", "systemd", "ok"),
        ("v2", "cgroupfs", "warning"),
        ("v1", "cgroupfs", "ok"),
        ("hybrid", "systemd", "ok"),
        ("v2", "none", "error"),
    ],
)
def test_the_cgroup_driver_against_the_mode(mode: str, driver: str, status: str) -> None:
    told = Settings(keys={"exec-opts": ["a=b", f"native.cgroupdriver={driver}"]})
    assert by_id(cgroups.checks(Cgroups(mode, frozenset()), told))["cgroups.driver"].status == status


def test_controllers_that_are_missing() -> None:
    lacking = by_id(cgroups.checks(Cgroups("v2", frozenset({"cpu", "cpuset", "io", "pids"})), Settings()))["cgroups.controllers"]
    assert lacking.status == "warning" and "memory" in lacking.what and "--memory" in lacking.what
    without = frozenset({"cpu", "cpuacct", "cpuset", "freezer", "memory", "pids", "blkio"})
    assert by_id(cgroups.checks(Cgroups("v1", without), Settings()))["cgroups.controllers"].status == "error"
