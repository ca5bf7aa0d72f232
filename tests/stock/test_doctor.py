"""`skim doctor`: what is wrong with a host, and what to do."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

import appliance
from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.ills import ILLS, Ill
from stock.marks import only_ours

pytestmark = only_ours("stock has no such command")

# All files but what runs on writes by itself: the journal, the clock of a timer, a getty that comes up, whose file is made beforehand.
SNAPSHOT = r"""
[ -e /run/agetty.reload ] || touch /run/agetty.reload
find / \( -path /proc -o -path /sys -o -path /dev -o -path /run/log -o -path /var/log/journal -o -path /run/systemd/journal \
    -o -path /run/agetty.reload -o -path /run/systemd/units -o -path /run/systemd/timers \) \
    -prune -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\n' 2>/dev/null | sort
cat /proc/self/mountinfo
systemctl list-units --all --plain --no-legend | tr -s ' '
systemctl list-unit-files --no-legend
cat /proc/modules 2>/dev/null
cat /proc/net/ip_tables_names
nft list ruleset
"""


def changes(host: Host, before: str) -> str:
    """What is other than in that snapshot."""
    return "\n".join(difflib.unified_diff(before.splitlines(), host.check(SNAPSHOT).splitlines(), "before", "after", lineterm="", n=0))


class Doctor:
    """`skim doctor --json` on a host, by the identifiers of its checks."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def look(self, **arguments: Any) -> dict[str, dict[str, str]]:
        done = self.host.run("skim doctor --json", **arguments)
        assert done.stderr == "", done.stderr
        document = json.loads(done.stdout)
        assert done.status == (0 if document["ok"] else 1), done.stdout
        return {check["id"]: check for check in document["checks"]}


@pytest.fixture
def doctor(ours: Host) -> Doctor:
    return Doctor(ours)


def test_a_healthy_host_has_no_finding_that_matters(doctor: Doctor) -> None:
    found = doctor.look()
    assert {check["status"] for check in found.values()} <= {"ok", "note"}, found
    for name in ("engine.images", "engine.mounts", "engine.docker", "units.running", "access.socket", "kernel.overlay", "storage.driver"):
        assert found[name]["status"] == "ok", found[name]


def test_the_table_is_for_people_and_ends_in_a_summary(ours: Host) -> None:
    done = ours.run("skim doctor")
    lines = done.stdout.splitlines()
    assert (done.status, done.stderr) == (0, "")
    assert "Storage" in lines and "  ok       the group docker is there" in lines
    assert lines[-1].startswith("nothing is wrong: ")
    assert "\x1b" not in done.stdout
    for line, following in itertools.pairwise(lines):
        if line.startswith(("  note", "  warning", "  error")):
            assert following.startswith("           do: "), line


def test_colours_are_for_a_terminal(ours: Host) -> None:
    with ours.terminal("skim doctor", columns=200) as terminal:
        terminal.expect("nothing is wrong: ")
        assert "\x1b[32mok" in terminal.transcript


def test_programs_get_each_finding_with_what_to_do(ours: Host) -> None:
    document = json.loads(ours.run("skim doctor --json").stdout)
    assert document["ok"] is True
    assert sum(document["counts"].values()) == len(document["checks"])
    for check in document["checks"]:
        assert set(check) == {"id", "group", "status", "what", "do"}
        assert bool(check["do"]) == (check["status"] != "ok"), check
        assert check["id"].startswith(check["group"] + ".")
    names = [check["id"] for check in document["checks"]]
    assert len(names) == len(set(names))


def test_unsigned_images_are_told_of_truthfully(doctor: Doctor) -> None:
    found = doctor.look()["engine.signatures"]
    assert found["status"] == "note" and "not signed" in found["what"]


@pytest.fixture(scope="module")
def well(ours: Host) -> dict[str, str]:
    """Statuses of the host as it was before anything was broken."""
    return {name: check["status"] for name, check in Doctor(ours).look().items()}


@pytest.mark.parametrize("ill", ILLS, ids=lambda ill: ill.name)
def test_it_finds_and_says_what_to_do(doctor: Doctor, well: dict[str, str], ill: Ill) -> None:
    assert well.get(ill.id, "ok") == "ok"
    try:
        doctor.host.check(ill.harm)
        found = doctor.look(environment=ill.environment)[ill.id]
        assert (found["status"], ill.what in found["what"], ill.do in found["do"]) == (ill.status, True, True), found
    finally:
        doctor.host.check(ill.mend)
    assert {name: check["status"] for name, check in doctor.look().items()} == well


def test_docker_runs_on_where_run_is_noexec(doctor: Doctor) -> None:
    doctor.host.check("mount -o remount,noexec /run")
    try:
        assert doctor.look()["engine.docker"]["status"] == "ok"
        assert doctor.host.check("docker info --format '{{.Driver}}'").strip() == "overlay2"
    finally:
        doctor.host.check("mount -o remount,exec /run")


def test_hosts_in_daemon_json_beside_the_unit_s_own_is_no_conflict(doctor: Doctor) -> None:
    doctor.host.write("/etc/docker/daemon.json", '{"hosts": ["fd://"]}')
    try:
        found = doctor.look()
        assert (found["daemon-json.hosts"]["status"], found["daemon-json.valid"]["status"]) == ("ok", "ok")
    finally:
        doctor.host.check("rm /etc/docker/daemon.json")


def test_it_changes_nothing(ours: Host) -> None:
    ours.check("systemctl stop docker.service")  # the socket stays, and nothing of the doctor's may wake Docker by it
    ours.wait_until("! systemctl list-units --all --plain --no-legend | grep -e -rkt-")  # systemd forgets the pod's units a moment later
    ours.write("/etc/docker/daemon.json", '{"debug": true}')
    try:
        before = ours.check(SNAPSHOT)
        ours.check("skim doctor")
        ours.check("skim doctor --json")
        ours.run("skim doctor", user="nobody")
        assert changes(ours, before) == ""
        assert ours.run("systemctl is-active docker.service").stdout.strip() == "inactive"
    finally:
        ours.check("rm /etc/docker/daemon.json && systemctl start docker.service")


def test_an_ordinary_user_is_told_what_could_not_be_looked_at(doctor: Doctor) -> None:
    found = doctor.look(user="nobody")
    assert "you may not use Docker" in found["access.you"]["what"]
    for name in ("engine.images", "pods.left", "storage.driver"):
        assert found[name]["status"] == "note" and "not looked at" in found[name]["what"], found[name]
        assert "as root" in found[name]["do"]
    for name in ("engine.mounts", "engine.docker", "units.running", "kernel.overlay", "space.docker"):
        assert found[name]["status"] == "ok", found[name]


def test_wrong_arguments_are_one_line(ours: Host) -> None:
    done = ours.run("skim doctor --loud")
    assert done.status == 254 and done.stderr.count("\n") == 1 and "skim --help" in done.stderr


@pytest.fixture
def installed(progress: cache.Progress) -> Iterator[Host]:
    """A host with the appliance's files, and no setup yet."""
    with NspawnHost(image.FLAVOURS["debian12-people"], prepare=appliance.install, progress=progress) as host:
        host.boot()
        host.run("systemctl is-system-running --wait")
        yield host


def test_a_user_of_a_host_without_d_bus_is_told_by_the_files(progress: cache.Progress) -> None:
    with NspawnHost(image.DEBIAN12, prepare=appliance.install, progress=progress) as host:
        host.boot()
        host.check("/opt/skim/bin/skim setup", timeout=300)
        host.write("/etc/default/docker", "DOCKER_OPTS=debug\n")
        found = Doctor(host).look(user="nobody")
        assert found["units.state"]["status"] == "note" and "as root" in found["units.state"]["do"]
        assert found["units.command"]["status"] == "ok" and found["daemon-json.arguments"]["status"] == "error"


def test_before_setup_it_says_so_and_makes_nothing(installed: Host) -> None:
    before = installed.check(SNAPSHOT)
    found = Doctor(installed).look()
    assert found["engine.record"]["status"] == "warning" and "skim setup" in found["engine.record"]["do"]
    assert "skim setup" in found["units.enabled"]["do"]
    assert not [check for check in found.values() if check["status"] == "error"]
    assert changes(installed, before) == ""
    assert installed.run("skim doctor", user="nobody").status == 0


def test_between_setup_and_the_first_start_nothing_is_wrong(installed: Host) -> None:
    installed.check("skim setup", timeout=300)
    found = Doctor(installed).look()
    assert found["units.running"]["status"] == "note" and "systemctl start docker" in found["units.running"]["do"]
    assert {check["status"] for check in found.values()} <= {"ok", "note"}, found


def test_beside_a_running_docker_of_the_distribution_it_says_what_is_in_the_way(progress: cache.Progress) -> None:
    with NspawnHost(image.FLAVOURS["debian12-people-stock"], progress=progress, prepare=appliance.install) as host:
        host.boot()
        host.check("systemctl start containerd docker")
        found = Doctor(host).look()
        assert found["host.other-dockerd"]["status"] == "warning" and "/usr/sbin/dockerd" in found["host.other-dockerd"]["what"]
        assert "/usr/bin/docker" in found["host.packages"]["what"]
        assert found["units.containerd"]["status"] == "note"
        assert found["host.command"]["status"] == "ok"
