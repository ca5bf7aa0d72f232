"""What is said before a host's own Docker is taken over, what is noted of it, and what becomes of units of the administrator's."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appc.errors import UserError
from engine import before, docker_api, host_docker, own_units, takeover
from engine.host_docker import Containers, HostDocker
from engine.layout import Layout
from engine.takeover_plan import downgrade_lines, plan_lines

HAS = Containers(root="/srv/docker", driver="overlay2", images=4, total=3, policies={"web": "always", "job": "no"}, live_restore=False)
THEIRS = HostDocker(
    unit="/lib/systemd/system/docker.service",
    program="/usr/sbin/dockerd",
    package="docker.io 20.10.24",
    version="20.10.24+dfsg1",
    running=True,
    containers=HAS,
    others={"k8s.io": 2},
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(root=str(tmp_path))
    for name in own_units.NAMES:
        source = Path(layout.unit_sources, name)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"# {name}\n")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "var/lib/skim").mkdir(parents=True)
    return layout


def noted(layout: Layout, **known: object) -> before.Before:
    """What an older version, or this one, has noted."""
    Path(layout.before).write_text(json.dumps(known))
    found = before.recall(layout)
    assert found is not None
    return found


def test_plan_says_what_is_here_what_stops_and_what_goes_on() -> None:
    text = "\n".join(plan_lines(THEIRS))
    assert "Docker 20.10.24+dfsg1 is here (/usr/sbin/dockerd of the package docker.io 20.10.24) and runs" in text
    assert "3 container(s), 2 of them running, and 4 image(s): overlay2, /srv/docker" in text
    assert "taken over: /srv/docker stays where it is" in text
    assert "stops and starts again, by restart policy: 1 container(s): web" in text
    assert "stops and stays down, having no restart policy: 1 container(s): job" in text
    assert "goes on: 2 container(s) of containerd's namespace k8s.io" in text


def test_plan_with_live_restore_stops_no_container() -> None:
    text = "\n".join(plan_lines(THEIRS._replace(containers=HAS._replace(live_restore=True))))
    assert "goes on: 2 container(s): web, job (live-restore is on)" in text
    assert "restart policy" not in text


def test_plan_where_docker_is_down_or_does_not_answer_or_is_not_there() -> None:
    down = "\n".join(plan_lines(THEIRS._replace(running=False, containers=None, others={})))
    assert "does not run" in down
    assert "stops" not in down
    assert "does not answer" in "\n".join(plan_lines(THEIRS._replace(containers=None)))
    nothing = HostDocker(unit="", program="", package="", version="", running=False, containers=None, others={})
    assert plan_lines(nothing) == []


def test_hundreds_of_containers_are_counted_and_some_named() -> None:
    many = HAS._replace(policies={f"c{number}": "no" for number in range(300)})
    line = next(line for line in plan_lines(THEIRS._replace(containers=many)) if "stays down" in line)
    assert "300 container(s): c0, c1" in line
    assert line.endswith("c9 and 290 more")


@pytest.mark.parametrize(
    ("former", "new", "warned"),
    [
        ("26.1.5+dfsg1", "20.10.24+dfsg1-1", True),
        ("20.10.24+dfsg1", "26.1.5+dfsg1-9", False),
        ("9.1", "10.0", False),
        ("26.1.5", "26.1.5+dfsg1-9+b4", False),
        ("", "26.1", False),
        ("26.1", "", False),
        ("1:27.0", "5:26.1", True),
    ],
)
def test_an_older_engine_is_warned_of(former: str, new: str, warned: bool) -> None:
    assert bool(downgrade_lines(former, new)) is warned


def test_drop_ins_that_start_another_dockerd(layout: Layout, tmp_path: Path) -> None:
    for name, text in {
        "a.conf": "[Service]\nExecStart=\nExecStart=-/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0\n",
        "b.conf": "[Service]\nExecStart=\nExecStart=dockerd -H fd://\n",
        "c.conf": "[Service]\n#ExecStart=/usr/bin/dockerd\nExecStart=/opt/skim/bin/dockerd\nExecStartPre=/usr/bin/dockerd --validate\n",
        "d.conf": "[Service]\nExecStart=/usr/local/bin/dockerd -H fd://\n",
    }.items():
        path = tmp_path / "etc/systemd/system/docker.service.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    ours = tmp_path / "opt/skim/bin/dockerd"
    ours.parent.mkdir()
    ours.touch()
    link = tmp_path / "usr/local/bin/dockerd"
    link.parent.mkdir(parents=True)
    link.symlink_to(ours)
    found = {"/etc/systemd/system/docker.service.d/a.conf": "/usr/sbin/dockerd"}
    assert host_docker.foreign_drop_ins(layout) == found
    assert len(takeover.check_drop_ins(layout, THEIRS._replace(running=False))) == 1
    with pytest.raises(UserError, match=r"a\.conf starts /usr/sbin/dockerd.*ExecStart=dockerd"):
        takeover.check_drop_ins(layout, THEIRS)


def test_units_of_the_administrators_are_kept_once_and_put_back(layout: Layout, tmp_path: Path) -> None:
    unit, mask = (tmp_path / path.lstrip("/") for path in own_units.ADMINISTRATORS)
    unit.write_text("[Service]\n")
    mask.symlink_to("/dev/null")
    known = noted(layout, aside=dict.fromkeys(own_units.ADMINISTRATORS, ""))
    assert len(own_units.set_aside(layout, known)) == 2
    assert not list((tmp_path / "etc/systemd/system").iterdir())
    assert own_units.set_aside(layout, known) == []
    assert own_units.put_back(layout, known) == []
    assert unit.read_text() == "[Service]\n"
    assert os.readlink(mask) == "/dev/null"
    assert not os.path.exists(layout.replaced)


def test_a_unit_that_the_administrator_has_put_since_goes_before_the_kept_one(layout: Layout, tmp_path: Path) -> None:
    path = own_units.ADMINISTRATORS[0]
    unit = tmp_path / path.lstrip("/")
    unit.write_text("old\n")
    known = noted(layout, aside={path: ""})
    own_units.set_aside(layout, known)
    unit.write_text("new\n")
    assert "stays in /opt/skim/share/skim/replaced" in own_units.put_back(layout, known)[0]
    assert unit.read_text() == "new\n"


def test_units_are_written_only_where_they_differ(layout: Layout) -> None:
    assert own_units.place(layout)
    assert not own_units.place(layout)
    Path(layout.unit_sources, "docker.socket").write_text("# newer\n")
    assert own_units.place(layout)
    own_units.withdraw(layout)
    assert os.listdir(layout.units) == []
    os.unlink(os.path.join(layout.unit_sources, "docker.socket"))
    with pytest.raises(UserError, match=r"docker\.socket is missing"):
        own_units.place(layout)


def test_what_an_older_version_noted_is_understood_and_what_is_damaged_is_not(layout: Layout) -> None:
    known = noted(layout, groups=["docker"], data=True, containerd_enabled=True, links={"/x": ""}, of_the_future=1)
    assert known.containerd_enabled
    assert known.active == []
    for text in ("{", "[]", '{"groups": "docker"}'):
        Path(layout.before).write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            before.recall(layout)


@pytest.fixture
def answering(layout: Layout) -> Iterator[dict[str, bytes]]:
    """A daemon at /run/docker.sock that answers as told, by path."""
    answers: dict[str, bytes] = {}
    path = Path(layout.at("/run/docker.sock"))
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answers[connection.recv(4096).split(b" ")[1].decode()])

        threading.Thread(target=serve, daemon=True).start()
        yield answers
        listener.shutdown(socket.SHUT_RDWR)


def test_the_daemon_is_asked_over_its_socket(layout: Layout, answering: dict[str, bytes]) -> None:
    answering.update(
        {
            "/info": b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"Images": 4}',
            "/gone": b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "no"}',
            "/cut": b"HTTP/1.0 200 OK\r\n\r\n{",
            "/empty": b"",
        }
    )
    assert docker_api.get(layout, "/info") == {"Images": 4}
    assert [docker_api.get(layout, path) for path in ("/gone", "/cut", "/empty")] == [None, None, None]


def test_without_a_daemon_there_is_no_answer(layout: Layout) -> None:
    assert docker_api.get(layout, "/info") is None
