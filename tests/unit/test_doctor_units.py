"""`skim doctor`: units, with systemd's answer and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from doctor_trees import by_id, probe
from engine.doctor import access, units
from engine.doctor.access import Access
from engine.doctor.finding import Check
from engine.doctor.units import Unit, Units, parse_shown

SHOWN = """\
Result=success
ExecStart={ path=/opt/skim/bin/dockerd ; argv[]=/opt/skim/bin/dockerd -H fd:// $DOCKER_OPTS ; ignore_errors=no ; start_time=[n/a] ; pid=0 }
Environment=SKIM_UNIT=docker.service "A=b c"
EnvironmentFiles=/etc/default/docker (ignore_errors=yes)
EnvironmentFiles=/run/flannel/flannel_docker_opts.env (ignore_errors=yes)
Id=docker.service
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/etc/systemd/system.attached/docker.service
DropInPaths=/etc/systemd/system/docker.service.d/a.conf /run/systemd/system/docker.service.d/b.conf
UnitFileState=enabled
NeedDaemonReload=yes
"""
SERVICE = Unit("docker.service", "loaded", "active", "running", "success", "enabled", "/etc/systemd/system.attached/docker.service")
SOCKET = Unit("docker.socket", "loaded", "active", "listening", "success", "enabled", "/etc/systemd/system.attached/docker.socket")
CONTAINERD = Unit("containerd.service", "not-found", "inactive", "dead")
FOREIGN = Unit("containerd.service", "loaded", "inactive", "dead", "success", "disabled", "/lib/systemd/system/containerd.service")
WELL = Units(
    systemd=True,
    asked=True,
    set_up=True,
    ours="/etc/systemd/system.attached",
    dockerd="/opt/skim/bin/dockerd",
    service=SERVICE._replace(program="/opt/skim/bin/dockerd"),
    socket=SOCKET,
    containerd=CONTAINERD,
    program_kind="ours",
    resetting="",
)


def look(facts: Units) -> dict[str, Check]:
    return by_id(units.checks(facts))


def test_systemd_s_answer() -> None:
    unit = parse_shown(SHOWN)
    assert (unit.name, unit.load, unit.active, unit.enabled, unit.stale) == ("docker.service", "loaded", "active", "enabled", True)
    assert unit.arguments == ("-H", "fd://", "$DOCKER_OPTS")
    assert unit.environment == ("SKIM_UNIT=docker.service", "A=b c")
    assert unit.environment_files == ("/etc/default/docker", "/run/flannel/flannel_docker_opts.env")
    assert len(unit.drop_ins) == 2


def test_all_is_well() -> None:
    assert {check.status for check in look(WELL).values()} == {"ok"}


@pytest.mark.parametrize(
    ("facts", "name", "status", "words"),
    [
        (WELL._replace(systemd=False), "units.systemd", "error", "not PID 1"),
        (WELL._replace(service=SERVICE._replace(load="masked")), "units.docker-service-file", "error", "masked"),
        (WELL._replace(service=SERVICE._replace(enabled="masked-runtime")), "units.docker-service-file", "error", "masked"),
        (WELL._replace(service=SERVICE._replace(fragment="")), "units.docker-service-file", "error", "there is no docker.service"),
        (WELL._replace(service=SERVICE._replace(load="bad-setting")), "units.docker-service-file", "error", "cannot load"),
        (
            WELL._replace(service=SERVICE._replace(fragment="/lib/systemd/system/docker.service"), program_kind="other"),
            "units.docker-service-file",
            "error",
            "not the appliance's",
        ),
        (
            WELL._replace(socket=SOCKET._replace(fragment="/run/systemd/transient/docker.socket")),
            "units.docker-socket-file",
            "error",
            "stands in front",
        ),
        (WELL._replace(program_kind="other", resetting="/x.conf"), "units.command", "error", "/x.conf has docker.service run"),
        (WELL._replace(program_kind="script", resetting="/x.conf"), "units.command", "note", "the script"),
        (WELL._replace(program_kind="missing"), "units.command", "error", "not there"),
        (WELL._replace(service=SERVICE._replace(enabled="disabled")), "units.enabled", "warning", "docker.service not enabled"),
        (WELL._replace(socket=SOCKET._replace(enabled="disabled")), "units.enabled", "warning", "by its socket"),
        (WELL._replace(set_up=False, socket=SOCKET._replace(enabled="disabled")), "units.enabled", "note", "not enabled yet"),
        (WELL._replace(service=SERVICE._replace(active="failed", result="exit-code")), "units.running", "error", "exit-code"),
        (WELL._replace(service=SERVICE._replace(active="activating", sub="auto-restart")), "units.running", "error", "start it again"),
        (WELL._replace(service=SERVICE._replace(active="activating", sub="start")), "units.running", "note", "activating"),
        (WELL._replace(socket=SOCKET._replace(active="failed", result="resources")), "units.socket-running", "error", "resources"),
        (WELL._replace(socket=SOCKET._replace(active="inactive")), "units.socket-running", "warning", "not active"),
        (WELL._replace(containerd=FOREIGN), "units.containerd", "note", "disabled"),
        (WELL._replace(containerd=FOREIGN._replace(enabled="enabled")), "units.containerd", "error", "chance"),
        (WELL._replace(containerd=FOREIGN._replace(active="active")), "units.containerd", "error", "share one socket"),
        (WELL._replace(set_up=False, containerd=FOREIGN._replace(active="active")), "units.containerd", "note", "its socket"),
    ],
)
def test_what_can_be_wrong(facts: Units, name: str, status: str, words: str) -> None:
    found = look(facts)[name]
    assert found.status == status and words in found.what, found


UNIT_FILE = "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/opt/skim/bin/dockerd -H fd:// $DOCKER_OPTS\n"
FILES = {
    "/run/systemd/system/": "",
    "/opt/skim/bin/dockerd": "#!/bin/sh\n",
    "/etc/systemd/system.attached/docker.service": UNIT_FILE,
    "/etc/systemd/system.attached/docker.socket": "[Socket]\n",
}


def test_without_systemd_s_answer_the_files_tell(tmp_path: Path) -> None:
    facts = units.gather(probe(tmp_path, FILES))
    assert not facts.asked and not facts.set_up
    assert facts.service.arguments == ("-H", "fd://", "$DOCKER_OPTS")
    assert facts.service.environment_files == ("/etc/default/docker",)
    found = look(facts)
    assert found["units.state"].status == "note" and "as root" in found["units.state"].do
    assert found["units.command"].status == "ok"


def test_files_in_front_of_ours(tmp_path: Path) -> None:
    files = FILES | {"/etc/systemd/system/docker.service": "[Service]\nExecStart=/bin/sleep 1\n", "/bin/sleep": "\x7fELF"}
    so_far = look(units.gather(probe(tmp_path / "so-far", files)))["units.docker-service-file"]
    assert so_far.status == "note" and "skim setup" in so_far.do  # which keeps it aside
    files |= {"/var/lib/skim/before.json": "{}"}
    found = look(units.gather(probe(tmp_path, files | {"/etc/systemd/system/docker.socket": "->/dev/null"})))
    assert "stands in front" in found["units.docker-service-file"].what
    assert "masked" in found["units.docker-socket-file"].what


def test_a_script_that_ends_in_dockerd_and_a_drop_in_that_names_it(tmp_path: Path) -> None:
    script = "/usr/lib/coreos/bin/dockerd"
    files = FILES | {script: '#!/bin/bash\nexec dockerd "$@"\n'}
    files["/etc/systemd/system.attached/docker.service"] = UNIT_FILE.replace("/opt/skim/bin/dockerd", script)
    files["/etc/systemd/system/docker.service.d/x.conf"] = f"[Service]\nExecStart=\nExecStart={script}\n"
    facts = units.gather(probe(tmp_path, files))
    assert (facts.program_kind, facts.resetting) == ("script", "/etc/systemd/system/docker.service.d/x.conf")


def test_a_drop_in_that_leads_nowhere_is_none(tmp_path: Path) -> None:
    facts = units.gather(probe(tmp_path, FILES | {"/etc/systemd/system/docker.service.d/x.conf": "->/dev/null"}))
    assert facts.service.drop_ins == ()


ALLOWED = Access(groups={0: "root", 101: "docker"}, mode=0o140660, owner=0, group=101, may_write=True, client="", is_root=True)


@pytest.mark.parametrize(
    ("facts", "name", "status", "words"),
    [
        (ALLOWED, "access.socket", "ok", "0660 root:docker"),
        (ALLOWED._replace(groups={0: "root"}), "access.group", "error", "docker.socket does not start"),
        (ALLOWED._replace(group=0), "access.socket", "warning", "not of the group docker"),
        (ALLOWED._replace(mode=0o140600), "access.socket", "warning", "members of docker cannot use it"),
        (ALLOWED._replace(mode=0o140666), "access.socket", "error", "everybody"),
        (ALLOWED._replace(mode=0o040755), "access.socket", "error", "is a directory"),
        (ALLOWED._replace(mode=0o100644), "access.socket", "error", "no socket"),
        (ALLOWED._replace(mode=None), "access.socket", "error", "missing"),
        (ALLOWED._replace(may_write=False), "access.you", "note", "you may not"),
    ],
)
def test_who_may_use_it(facts: Access, name: str, status: str, words: str) -> None:
    found = by_id(access.checks(facts, WELL))[name]
    assert found.status == status and words in found.what, found


def test_a_group_that_a_drop_in_of_the_socket_names_is_meant() -> None:
    facts = WELL._replace(socket=SOCKET._replace(group="wheel", mode="0660"))
    found = by_id(access.checks(ALLOWED._replace(groups={0: "root", 10: "wheel", 101: "docker"}, group=10), facts))
    assert found["access.socket"].status == "ok"


def test_access_is_read_from_the_host(tmp_path: Path) -> None:
    facts = access.gather(probe(tmp_path, {"/etc/group": "root:x:0:\ndocker:x:101:anna\n", "/run/docker.sock/": ""}))
    assert facts.has_group and facts.mode is not None and facts.owner == os.getuid()
    assert by_id(access.checks(facts, WELL))["access.socket"].status == "error"
