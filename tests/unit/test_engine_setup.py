"""`skim setup`, `remove` and `status` from end to end against fake programs of the host."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appc.errors import UserError
from engine import before, links, status
from engine.layout import Layout
from engine.remove import remove
from engine.setup import setup
from unit.fake_host import DIGEST, files, host_links, log, make_host, unit_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    return make_host(tmp_path, monkeypatch)


def test_setup(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    setup(layout)
    asked = log(layout)
    assert sorted(unit_files(layout)) == [
        "run-skim-engine-containerd.mount",
        "run-skim-engine-docker.mount",
        f"run-skim-lib-{DIGEST}.mount",
    ]
    restarts = [line for line in asked if line.startswith("systemctl restart")]
    assert restarts == [
        f"systemctl restart run-skim-lib-{DIGEST}.mount",
        "systemctl restart run-skim-engine-containerd.mount run-skim-engine-docker.mount",
    ]
    assert asked.index("systemctl daemon-reload") < asked.index(restarts[0])
    assert "systemctl enable docker.socket docker.service" in asked
    assert asked.index("systemctl enable docker.socket docker.service") > asked.index(restarts[-1])
    assert Path(layout.units, "docker.service").read_text() == "# docker.service\n"
    assert "systemctl start docker.socket" in asked
    assert not [line for line in asked if line == "systemctl start docker.service"]
    assert "DOCKER_ID=sha512-docker\n" in Path(layout.record).read_text()
    assert Path(layout.roots).read_text().split() == ["sha512-stage1", "sha512-containerd", "sha512-docker"]
    assert os.readlink(layout.way) == "engine"
    link = Path(layout.at(links.PLUGINS.directory)) / "docker-compose"
    assert os.readlink(link) == "/run/skim/docker/docker/usr/libexec/docker/cli-plugins/docker-compose"
    assert "systemctl start docker" in capsys.readouterr().out.splitlines()[-1]


def test_setup_again_changes_nothing(layout: Layout) -> None:
    setup(layout)
    log(layout)
    units, record = unit_files(layout), Path(layout.record).read_text()
    for name in units:
        Path(layout.root, f"active-{name}").write_text("active\n")
    setup(layout)
    assert (unit_files(layout), Path(layout.record).read_text()) == (units, record)
    changes = ("systemctl restart", "systemctl start", "systemctl enable docker", "systemctl daemon-reload")
    assert not [line for line in log(layout) if line.startswith(changes)]  # what the administrator has disabled stays so


def test_setup_mounts_anew_what_shows_a_tree_that_is_gone(layout: Layout) -> None:
    setup(layout)
    for name in unit_files(layout):
        Path(layout.root, f"active-{name}").write_text("active\n")
    Path(layout.at("/var/lib/rkt/cas/tree/deps-docker/rootfs")).mkdir()
    log(layout)
    setup(layout)
    assert [line for line in log(layout) if line.startswith("systemctl restart")] == ["systemctl restart run-skim-engine-docker.mount"]


def test_setup_that_fails_at_an_image_names_the_step(layout: Layout) -> None:
    Path(layout.root, "fetch-fails").touch()
    with pytest.raises(UserError, match=r"images into the store: .*bad image"):
        setup(layout)
    assert unit_files(layout) == {}
    assert not Path(layout.record).exists()


def test_setup_that_fails_at_the_mounts_leaves_the_former_engine(layout: Layout) -> None:
    setup(layout)
    units, record = unit_files(layout), Path(layout.record).read_text()
    Path(layout.root, "digest").write_text("e" * 32)
    Path(layout.root, "restart-fails").touch()
    with pytest.raises(UserError, match="mounts of the installed engine"):
        setup(layout)
    assert (unit_files(layout), Path(layout.record).read_text()) == (units, record)


def test_setup_that_cannot_run_the_programs_leaves_the_former_engine(layout: Layout) -> None:
    setup(layout)
    units = unit_files(layout)
    Path(layout.root, "digest").write_text("e" * 32)
    Path(layout.engine_root("docker"), "usr/bin/docker").write_text("#!/bin/sh\necho 'libz.so.1 not found' >&2\nexit 127\n")
    with pytest.raises(UserError, match=r"libz\.so\.1 not found"):
        setup(layout)
    assert unit_files(layout) == units


@pytest.mark.parametrize("running", [False, True])
def test_setup_drops_the_former_libraries_once_nobody_needs_them(layout: Layout, running: bool) -> None:
    setup(layout)
    Path(layout.root, "digest").write_text("e" * 32)
    if running:
        Path(layout.root, "active-docker.service").write_text("active\n")
    setup(layout)
    assert (f"run-skim-lib-{DIGEST}.mount" in unit_files(layout)) is running


def test_setup_without_systemd_changes_nothing(layout: Layout) -> None:
    os.rmdir(layout.at("/run/systemd/system"))
    with pytest.raises(UserError, match="PID 1"):
        setup(layout)
    assert not Path(layout.state).exists()


def test_setup_takes_over_from_a_containerd_of_the_host_and_remove_gives_back(layout: Layout) -> None:
    Path(layout.root, "enabled-containerd.service").touch()
    wants = Path(layout.at(before.ENABLING_LINKS["docker.service"]))
    wants.parent.mkdir(parents=True)
    wants.symlink_to("/lib/systemd/system/docker.service")
    unit = Path(layout.at("/lib/systemd/system/docker.service"))
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n")
    setup(layout)
    assert "systemctl disable containerd.service" in log(layout)
    wants.unlink()  # what `systemctl disable docker.service` does
    remove(layout)
    assert "systemctl enable containerd.service" in log(layout)
    assert os.readlink(wants) == "/lib/systemd/system/docker.service"


def test_setup_links_what_the_engine_brings_beside_its_programs(layout: Layout) -> None:
    setup(layout)
    assert host_links(layout) == {
        "/usr/local/bin/docker": "/run/skim/docker/docker/usr/bin/docker",
        "/usr/local/libexec/docker/cli-plugins/docker-compose": "/run/skim/docker/docker/usr/libexec/docker/cli-plugins/docker-compose",
        "/usr/local/share/zsh/site-functions/_docker": "/run/skim/docker/docker/usr/share/zsh/vendor-completions/_docker",
        "/usr/local/share/man/man5/Dockerfile.5.gz": "/run/skim/docker/docker/usr/share/man/man5/Dockerfile.5.gz",
        "/usr/local/share/man/man8/ctr.8.gz": "/run/skim/docker/containerd/usr/share/man/man8/ctr.8.gz",
    }


def test_links_follow_the_engine_and_leave_what_is_somebody_elses(layout: Layout) -> None:
    sites, pages = Path(layout.at("/usr/local/share/zsh/site-functions")), Path(layout.at("/usr/local/share/man/man8"))
    sites.mkdir(parents=True)
    (sites / "_docker").write_text("somebody's own")
    before_setup = sorted(Path(layout.at("/usr/local")).rglob("*"))
    before_setup.remove(Path(layout.at("/usr/local/bin/docker")))  # the installation's, which has no list here
    setup(layout)
    Path(layout.engine_root("containerd"), "usr/share/man/man8/ctr.8.gz").rename(
        Path(layout.engine_root("containerd"), "usr/share/man/man8/runc.8.gz")
    )
    setup(layout)
    assert os.listdir(pages) == ["runc.8.gz"]
    assert (sites / "_docker").read_text() == "somebody's own"
    remove(layout)
    assert sorted(Path(layout.at("/usr/local")).rglob("*")) == before_setup


def test_what_cannot_be_linked_is_said_once(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(layout.at("/usr/local"))
    Path(layout.at("/usr/local")).touch()  # as little a place for links as a /usr that is read-only
    setup(layout)
    said = [line for line in capsys.readouterr().out.splitlines() if "not linked" in line or "cliPlugins" in line]
    assert len(said) == 2
    assert "not linked: plugins, completions, manual pages (" in said[0]
    assert '"cliPluginsExtraDirs": ["/run/skim/docker/docker/usr/libexec/docker/cli-plugins"]' in said[1]


# As it is, and it makes the links; at its turn whoever called it is killed.
DYING_SYSTEMCTL = """#!/bin/sh
turn=$(($(cat "@/turn" 2>/dev/null || echo 0) - 1))
echo "$turn" >"@/turn"
for word; do
    for directory in multi-user sockets; do
        [ "$word" != "docker.${directory%s}" ] && [ "$directory $word" != "multi-user docker.service" ] && continue
        link="@/etc/systemd/system/$directory.target.wants/$word"
        case $1 in
        enable) mkdir -p "${link%/*}" && ln -sfn "/etc/systemd/system.attached/$word" "$link" ;;
        disable) rm -f "$link" ;;
        esac
    done
done
[ "$1" != is-active ] || echo inactive
[ "$turn" != 0 ] || { kill -9 "$PPID"; exit 1; }
"""


def killed(layout: Layout, work: Callable[[Layout], None], turn: int) -> bool:
    """Whether it was, at that call of systemctl; otherwise it has come to its end."""
    Path(layout.root, "turn").write_text(str(turn))
    child = os.fork()
    if child == 0:
        try:
            work(layout)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    Path(layout.root, "turn").unlink()
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("work", [setup, remove])
def test_killed_anywhere_it_is_repaired_by_the_next_setup_and_undone_by_remove(work: Callable[[Layout], None], layout: Layout) -> None:
    Path(layout.root, "bin/systemctl").write_text(DYING_SYSTEMCTL.replace("@", layout.root))
    unit = Path(layout.at("/etc/systemd/system/docker.service"))
    unit.parent.mkdir(parents=True)
    unit.write_text("the administrator's\n")
    pristine = files(layout)
    setup(layout)
    whole = files(layout)
    assert {path for path in whole if "docker." in path} - pristine.keys() >= {
        "etc/systemd/system.attached/docker.service",
        "etc/systemd/system/multi-user.target.wants/docker.service",
    }
    assert "etc/systemd/system/docker.service" not in whole
    remove(layout)
    assert files(layout) == pristine
    turn = 0
    was_killed = True
    while was_killed:
        turn += 1
        if work is remove:
            setup(layout)
        was_killed = killed(layout, work, turn)
        if turn % 2:
            setup(layout)
            assert files(layout) == whole, f"killed at {turn}"
        remove(layout)
        assert files(layout) == pristine, f"killed at {turn}"
    assert turn > 8


def test_remove(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = Path(layout.at(links.PLUGINS.directory)) / "docker-mine"
    setup(layout)
    foreign.touch()
    Path(layout.root, "active-docker.service").write_text("active\n")
    log(layout)
    remove(layout)
    asked = log(layout)
    assert asked.index("systemctl stop docker.socket docker.service") < asked.index("collect-pods --ended")
    assert "docker is running: it is stopped now" in capsys.readouterr().out
    assert unit_files(layout) == {}
    assert not Path(layout.state).exists()
    assert not os.path.lexists(layout.way)
    assert list(foreign.parent.iterdir()) == [foreign]
    assert "rkt image rm sha512-stage1 sha512-containerd sha512-docker" in asked  # the data directory was there before setup
    assert not os.path.exists(layout.roots)
    remove(layout)  # nothing is left to remove, and that is no error


def test_remove_keeps_images_of_others(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(layout.data)
    known = before.look(layout)
    Path(layout.at("/var/lib/rkt/cas/tree/deps-web")).mkdir(parents=True)
    Path(layout.state).mkdir()
    Path(layout.before).write_text(json.dumps(known._asdict()))
    Path(layout.record).write_text("DOCKER_ID=")  # damaged, which does not keep the rest from going
    Path(layout.root, "images").write_text("skim/docker:26.1\nexample.com/web:1\n")
    remove(layout)
    assert "there are other images in it, such as example.com/web:1" in capsys.readouterr().out
    assert Path(layout.data).is_dir()
    Path(layout.state).mkdir()
    Path(layout.before).write_text(json.dumps(known._asdict()))
    Path(layout.root, "images").unlink()
    remove(layout)
    assert not Path(layout.data).exists()


def test_interrupted_it_lets_rkt_clean_up(layout: Layout) -> None:
    rkt = Path(layout.rkt)
    rkt.write_text(f"#!/bin/sh\ntrap 'touch {layout.root}/cleaned; exit 1' TERM\ntouch {layout.root}/started\nsleep 20 & wait $!\n")
    code = "from engine import __main__ as skim, host\nfrom engine.layout import Layout\nimport sys\n"
    code += f"skim.main = lambda words: host.rkt(Layout(root={layout.root!r}), 'fetch')\nsys.exit(skim.run())"
    skim = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not Path(layout.root, "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    skim.terminate()
    assert skim.communicate()[1] == "skim: interrupted\n"
    assert skim.returncode == -signal.SIGTERM
    assert Path(layout.root, "cleaned").exists()


def test_status(layout: Layout) -> None:
    assert status.look(layout).engine is None
    assert "skim setup" in status.status_text(status.look(layout))
    setup(layout)
    Path(layout.root, "active-docker.service").write_text("active\n")
    Path(layout.pod_uuid).write_text("55555555-5555-4555-8555-555555555555")
    found = status.look(layout)
    assert "active, pod 55555555" in status.status_text(found)
    parsed = json.loads(status.status_json(found))
    assert parsed["engine"]["docker"]["version"] == "1.2"
    assert parsed["service"] == "active"
    assert parsed["client"].endswith("engine/docker/usr/bin/docker")


def test_one_at_a_time(layout: Layout) -> None:
    lock = Path(layout.at("/run/skim-setup.lock"))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for one in (setup, remove):
            with pytest.raises(UserError, match="another `skim setup` or `skim remove` is running"):
                one(layout)
    assert not Path(layout.record).exists()
    setup(layout)
    assert Path(layout.record).exists()
    assert not lock.exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"STAGE1_ID='", b"", b"STAGE1_ID=1"])
def test_a_damaged_record_says_what_to_do(layout: Layout, content: bytes) -> None:
    Path(layout.record).parent.mkdir(parents=True, exist_ok=True)
    Path(layout.record).write_bytes(content)
    with pytest.raises(UserError, match=r"engine\.env is damaged .*skim setup"):
        status.look(layout)
