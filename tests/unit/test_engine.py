"""`skim`: its texts, and setup and remove from end to end against fake programs of the host."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from appc.errors import UserError
from engine import __main__ as command
from engine import before, host, links, own_units, status
from engine.configuration import parse_configuration
from engine.layout import Layout
from engine.mount_units import mount_units, unit_name
from engine.record import Engine, Image, engine_text, parse_engine
from engine.remove import remove
from engine.setup import setup

ROOT = Path(__file__).parents[2]
DIGEST = "0123456789abcdef" * 2


def image(role: str, libraries: str = "") -> Image:
    return Image(
        id=f"sha512-{role:0<64}", name=f"skim/{role}", version="26.1.5+dfsg1-9+b4", tree=f"deps-sha512-{role}", libraries=libraries
    )


ENGINE = Engine(stage1=image("1"), containerd=image("c", DIGEST), docker=image("d", "f" * 32))


def test_engine_record_survives_the_shell() -> None:
    odd = ENGINE._replace(docker=ENGINE.docker._replace(version="1'; touch /x; '"))
    assert parse_engine(engine_text(odd)) == odd
    done = subprocess.run(["sh", "-c", engine_text(odd) + 'printf %s "$DOCKER_VERSION"'], capture_output=True, text=True, check=True)
    assert done.stdout == odd.docker.version


@pytest.mark.parametrize("text", ["", "DOCKER_ID=x\n", "DOCKER_ID='x\n", "nonsense\n"])
def test_damaged_record_says_what_to_do(text: str) -> None:
    with pytest.raises(UserError, match="skim setup"):
        parse_engine(text)


def test_configuration_names_every_problem_with_its_line() -> None:
    with pytest.raises(UserError) as caught:
        parse_configuration("STAGE1_IMAGE=relative.aci\n# fine\nKERNEL=/x\nrm -rf\nDOCKER_IMAGE='/a\n", "docker.conf")
    assert [part.partition(":")[0].strip() for part in caught.value.message.removeprefix("docker.conf: ").split("; ")] == [
        "line 1",
        "line 3",
        "line 4",
        "line 5",
    ]


def test_configuration_as_shipped() -> None:
    text = (ROOT / "host-units/docker.conf").read_text().replace("@PREFIX@", "/opt/skim")
    assert parse_configuration(text, "x").docker == "/opt/skim/images/docker.aci"
    with pytest.raises(UserError, match="CONTAINERD_IMAGE is missing"):
        parse_configuration("STAGE1_IMAGE=/a\nDOCKER_IMAGE=/b\n", "x")


def test_mount_units_share_libraries_of_the_same_digest() -> None:
    assert len(mount_units(ENGINE)) == 4
    shared = ENGINE._replace(docker=ENGINE.docker._replace(libraries=DIGEST))
    assert sorted(mount_units(shared)) == [
        "run-skim-engine-containerd.mount",
        "run-skim-engine-docker.mount",
        f"run-skim-lib-{DIGEST}.mount",
    ]
    bare = ENGINE._replace(docker=image("d"), containerd=image("c"))
    assert not [name for name in mount_units(bare) if "lib" in name]


def test_mount_units_pass_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, text in mount_units(ENGINE).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_name_as_systemd_escapes_it() -> None:
    if shutil.which("systemd-escape") is None:
        pytest.skip("systemd-escape is not installed")
    for path in ("/run/skim/engine/docker", "/run/skim/lib/a-b"):
        done = subprocess.run(["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True)
        assert unit_name(path) == done.stdout.strip()


def test_front_door(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"skim {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"
    assert command.main(["--help"]) == 0
    assert "systemctl start docker" in capsys.readouterr().out
    for words in ([], ["set-up"], ["setup", "now"]):
        with pytest.raises(UserError, match="skim --help"):
            command.main(words)


# A host: systemctl and rkt write down what they are asked and do the little that setup looks at.
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"@/log"
case "$1" in
is-active) cat "@/active-$2" 2>/dev/null || { echo inactive; exit 3; } ;;
is-enabled) [ -e "@/enabled-$2" ] ;;
restart) [ ! -e "@/restart-fails" ] || { echo "Job failed." >&2; exit 1; } ;;
esac
"""
RKT = """#!/bin/sh
echo "rkt $*" >>"@/log"
case "$1 $2" in
"fetch "*) [ ! -e "@/fetch-fails" ] || { echo "run: bad image" >&2; exit 254; }
    for path; do :; done; basename "$path" .aci | sed 's/^/sha512-/' ;;
"image list") cat "@/images" 2>/dev/null || : ;;
"image cat-manifest") for key; do :; done
    printf '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"skim/%s","labels":[{"name":"version","value":"1.2"}],
     "annotations":[{"name":"skim/libraries","value":"%s"}]}' "${key#sha512-}" "$(cat "@/digest")" ;;
esac
"""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    layout = Layout(root=str(tmp_path))
    monkeypatch.setattr(host, "require_root", lambda command: None)
    monkeypatch.setattr(before, "_group_exists", lambda group: True)
    for directory in ("run/systemd/system", "run/skim/engine", "etc/systemd/system.attached", "etc/skim", "var/lib", "usr/local/bin"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/local/bin/docker").symlink_to("/run/skim/docker/docker/usr/bin/docker")  # as `make install` does
    lines = []
    for role in ("stage1", "containerd", "docker"):
        (tmp_path / f"{role}.aci").write_text(role)
        lines.append(f"{role.upper()}_IMAGE={tmp_path}/{role}.aci\n")
        tree = tmp_path / f"var/lib/rkt/cas/tree/deps-{role}"
        tree.mkdir(parents=True)
        (tree / "image").write_text(f"sha512-{role}")
        (tree / "rendered").touch()
    (tmp_path / "etc/skim/docker.conf").write_text("".join(lines))
    (tmp_path / "digest").write_text(DIGEST)
    programs = {
        "bin/systemctl": SYSTEMCTL,
        "opt/skim/bin/rkt": RKT,
        "opt/skim/libexec/collect-pods": '#!/bin/sh\necho "collect-pods $*" >>"@/log"\n',
        "bin/systemd-sysusers": "#!/bin/sh\n",
        "bin/systemd-tmpfiles": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/bin/docker": "#!/bin/sh\n",
        "run/skim/engine/containerd/usr/bin/containerd": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/libexec/docker/cli-plugins/docker-compose": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/share/zsh/vendor-completions/_docker": "",
        "run/skim/engine/docker/usr/share/man/man5/Dockerfile.5.gz": "",
        "run/skim/engine/docker/usr/share/man/man1/tini.1.gz": "",
        "run/skim/engine/containerd/usr/share/man/man8/ctr.8.gz": "",
        **{f"opt/skim/lib/systemd/system/{name}": f"# {name}\n" for name in own_units.NAMES},
    }
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("@", str(tmp_path)) if "$" in text else text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return layout


def log(layout: Layout) -> list[str]:
    path = Path(layout.root, "log")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def unit_files(layout: Layout) -> dict[str, str]:
    """Those of mounts."""
    return {path.name: path.read_text() for path in Path(layout.units).iterdir() if path.name not in own_units.NAMES}


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


def host_links(layout: Layout) -> dict[str, str]:
    """Every link below /usr/local, and what it says."""
    top = Path(layout.at("/usr/local"))
    return {f"/usr/local/{path.relative_to(top)}": os.readlink(path) for path in top.rglob("*") if path.is_symlink()}


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


def files(layout: Layout) -> dict[str, str]:
    """What is below /etc and /var/lib/skim: links by what they say."""
    found = {}
    for top in ("etc", "var/lib/skim"):
        for path in Path(layout.root, top).rglob("*"):
            if path.is_symlink() or path.is_file():
                found[str(path.relative_to(layout.root))] = os.readlink(path) if path.is_symlink() else path.read_text()
    return found


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


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "engine", "upgrade"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 254
    assert done.stderr == "skim: cannot do `upgrade` (`skim --help` lists what can be done)\n"
