"""The shell wrappers, run as they are installed but with every absolute path below a directory of the test and a fake `rkt`."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "docker-wrapper"
STAGE1, CONTAINERD, DOCKER = ("sha512-" + digit * 64 for digit in "123")

# Writes what it was given, NUL-separated as /proc has it, so that no byte is lost.
FAKE = """#!/bin/sh
cat /proc/$$/cmdline >"@OUT@/argv"
cat /proc/$$/environ >"@OUT@/environ"
readlink /proc/$$/cwd >"@OUT@/cwd"
echo $$ >"@OUT@/pid"
[ -e "@OUT@/fails" ] && { echo "rkt says no" >&2; exit 254; }
exit 0
"""


class Host:
    """A directory that stands for the host's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "out"
        self.state = root / "var/lib/skim"
        self.run = root / "run/skim"
        for directory in ("out", "var/lib/skim/old", "run/skim", "opt/skim/bin", "lib/modules", "etc/docker", "var/lib/rkt/pods/run"):
            (root / directory).mkdir(parents=True)
        for name in ("no-engine", "dockerd", "collect-pods"):
            text = (SOURCE / name).read_text().replace("@PREFIX@", f"{root}/opt/skim")
            text = re.sub(
                r"(?<![\w.}])/(var/lib|run/skim|lib/modules|etc/docker|etc/systemd|usr/s?bin/docker|usr/s?bin[ ;])", rf"{root}/\1", text
            )
            self.program(root / "opt/skim/bin" / name, text)
        self.program(root / "opt/skim/bin/rkt", FAKE)

    def program(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@OUT@", str(self.out)))
        path.chmod(0o755)
        return path

    def set_up(self) -> None:
        (self.state / "engine.env").write_text(f"STAGE1_ID={STAGE1}\nCONTAINERD_ID={CONTAINERD}\nDOCKER_ID={DOCKER}\n")

    def call(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "opt/skim/bin" / name, *arguments],
            env={"PATH": os.environ["PATH"], **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def argv(self) -> list[str]:
        """What the fake program got, without the shell and the script's name in front."""
        return (self.out / "argv").read_text().split("\0")[2:-1]

    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in (self.out / "environ").read_text().split("\0") if entry)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_until_our_unit_is_in_place_the_hosts_own_docker_goes_on(host: Host) -> None:
    host.set_up()
    (host.root / "opt/skim/bin/runc").symlink_to("no-engine")
    for name, path in (("dockerd", "usr/sbin/dockerd"), ("runc", "usr/sbin/runc")):
        host.program(host.root / path, FAKE)
        assert host.call(name, "-H", "fd://").returncode == 0
        assert host.argv() == ["-H", "fd://"]
    unit = host.root / "etc/systemd/system.attached/docker.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert host.call("dockerd", "-H", "fd://").returncode == 0
    assert host.argv()[0] == "run"


def test_links_of_ours_where_packages_have_theirs_lead_to_no_circle(host: Host) -> None:
    """`skim setup` makes them where nothing is."""
    host.set_up()
    for directory in ("usr/bin", "usr/sbin"):
        (host.root / directory).mkdir(parents=True)
    (host.root / "usr/sbin/dockerd").symlink_to(host.root / "opt/skim/bin/dockerd")
    (host.root / "usr/bin/docker").symlink_to(host.root / "opt/skim/bin/no-engine")
    for path in ("opt/skim/bin/dockerd", "usr/sbin/dockerd"):
        assert subprocess.run([host.root / path, "-D"], timeout=20, check=False).returncode == 0
        assert host.argv()[0] == "run"
    done = subprocess.run([host.root / "usr/bin/docker"], timeout=20, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:30]) == (127, "docker: no engine is set up he")


ODD = ["run", "a b", "", "it's", 'say "x"', "$HOME `id` \\", "two\nlines", "*", "--x=%n", "ünï", "-"]


@pytest.mark.parametrize("name", ["no-engine", "dockerd", "collect-pods"])
def test_wrappers_are_posix_shell(name: str) -> None:
    subprocess.run(["dash", "-n", SOURCE / name], check=True)
    assert (SOURCE / name).stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["docker", "containerd", "ctr", "runc"])
def test_a_command_without_an_engine_is_one_line_under_the_name_that_was_called(host: Host, name: str) -> None:
    (host.root / "usr-local-bin").mkdir()
    (host.root / "engine").symlink_to(host.root / "opt/skim/bin/no-engine")
    (host.root / "usr-local-bin" / name).symlink_to(host.root / "engine")
    done = subprocess.run([name, "ps"], env={"PATH": str(host.root / "usr-local-bin")}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == f"{name}: no engine is set up here: run 'skim setup' as root, then 'systemctl start docker'\n"


def test_dockerd_by_hand(host: Host) -> None:
    host.set_up()
    assert host.call("dockerd", *ODD).returncode == 0
    assert host.argv() == [
        "run",
        f"--stage1-hash={STAGE1}",
        "--insecure-options=image",
        "--inherit-env",
        f"--uuid-file-save={host.state}/pod-uuid",
        f"--volume=lib-modules,kind=host,source={host.root}/lib/modules,readOnly=true",
        CONTAINERD,
        "--name=containerd",
        "--annotation=skim/pod-name=docker",
        DOCKER,
        "--name=docker",
        "--annotation=skim/path-from=containerd",
        "--",
        *ODD,
    ]


def test_dockerd_of_docker_service(host: Host) -> None:
    host.set_up()
    environment = {
        "SKIM_UNIT": "docker.service",
        "LISTEN_FDNAMES": "docker.socket:tls:docker.socket:docker-tls.socket",
        "HTTP_PROXY": "http://p:1",
    }
    assert host.call("dockerd", "-H", "fd://", environment=environment).returncode == 0
    assert host.argv()[8:15] == [
        "--annotation=skim/pod-name=docker",
        "--annotation=skim/host-unit=containerd.service",
        DOCKER,
        "--name=docker",
        "--annotation=skim/path-from=containerd",
        "--annotation=skim/host-unit=docker.service",
        "--annotation=skim/unit=[Service]\nSockets=docker.socket docker-tls.socket",
    ]
    assert host.argv()[15:] == ["--", "-H", "fd://"]
    assert host.environment()["HTTP_PROXY"] == "http://p:1"
    assert "SKIM_UNIT" not in host.environment()


def arguments_of_dockerd(host: Host, *arguments: str) -> list[str]:
    assert host.call("dockerd", *arguments, environment={"SKIM_UNIT": "docker.service"}).returncode == 0
    return host.argv()[host.argv().index("--") + 1 :]


def test_dockerd_is_not_told_twice_where_to_listen(host: Host) -> None:
    host.set_up()
    configuration = host.root / "etc/docker/daemon.json"
    configuration.write_text('{"debug": true}')
    assert arguments_of_dockerd(host, "-H", "fd://", "a b") == ["-H", "fd://", "a b"]
    configuration.write_text('{"hosts" : ["fd://", "tcp://127.0.0.1:2375"]}')
    assert arguments_of_dockerd(host, "-H", "fd://", "--label=a b", *ODD[1:]) == ["--label=a b", *ODD[1:]]
    assert arguments_of_dockerd(host, "--debug", "--host", "fd://") == ["--debug"]
    assert arguments_of_dockerd(host, "fd://", "-H") == ["fd://", "-H"]
    assert arguments_of_dockerd(host) == []
    assert arguments_of_dockerd(host, "-H", "tcp://127.0.0.1:1") == ["-H", "tcp://127.0.0.1:1"]  # the user's own: dockerd's to judge
    other = host.root / "other.json"
    other.write_text("{}")
    for given in ([f"--config-file={other}"], ["--config-file", str(other)]):
        assert arguments_of_dockerd(host, "-H", "fd://", *given) == ["-H", "fd://", *given]


@pytest.mark.parametrize("name", ["dockerd", "collect-pods"])
def test_nobody_but_root_can_hold_the_lock(host: Host, name: str) -> None:
    host.set_up()
    host.call(name, *(["--ended"] if name == "collect-pods" else []))
    assert (host.run / "docker.lock").stat().st_mode & 0o777 == 0o600


def test_dockerd_without_kernel_modules(host: Host) -> None:
    host.set_up()
    (host.root / "lib/modules").rmdir()
    assert host.call("dockerd").returncode == 0
    assert [word for word in host.argv() if word.startswith("--volume")] == ["--volume=lib-modules,kind=empty"]


@pytest.mark.parametrize("argument", ["--version", "-v", "--help", "-h", "--validate"])
def test_dockerd_that_only_asks_needs_no_pod(host: Host, argument: str) -> None:
    host.program(host.run / "docker/docker/usr/sbin/dockerd", FAKE)
    assert host.call("dockerd", "-D", argument).returncode == 0
    assert host.argv() == ["-D", argument]
    assert host.environment()["PATH"].startswith(f"{host.run}/docker/docker/usr/sbin:")


@pytest.mark.parametrize("argument", ["--version", "-D"])
def test_dockerd_without_an_engine(host: Host, argument: str) -> None:
    done = host.call("dockerd", argument)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "skim setup" in done.stderr


def test_dockerd_with_half_a_record(host: Host) -> None:
    (host.state / "engine.env").write_text("STAGE1_ID=x\n")
    done = host.call("dockerd")
    assert done.returncode == 1
    assert "does not name three images" in done.stderr


def test_dockerd_refuses_what_would_end_its_arguments(host: Host) -> None:
    host.set_up()
    done = host.call("dockerd", "-D", "---", "-v2")
    assert done.returncode == 1
    assert not (host.out / "argv").exists()


def test_second_dockerd_is_refused_and_the_lock_ends_with_the_first(host: Host) -> None:
    host.set_up()
    host.program(host.root / "opt/skim/bin/rkt", "#!/bin/sh\necho up\nread line\nexit 0\n")
    first = subprocess.Popen([host.root / "opt/skim/bin/dockerd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    (host.state / "pod-uuid").write_text("11111111-1111-4111-8111-111111111111")
    second = host.call("dockerd")
    assert second.returncode == 1
    assert "running already" in second.stderr
    # What is wrong with its arguments is said first, by dockerd itself.
    refuses = '#!/bin/sh\ncase "$*" in *--nonsense*) echo "unknown flag: $1" >&2; exit 125 ;; esac\n'
    program = host.program(host.run / "docker/docker/usr/sbin/dockerd", refuses)
    third = host.call("dockerd", "--nonsense")
    assert (third.returncode, third.stderr) == (125, "unknown flag: --nonsense\n")
    assert "running already" in host.call("dockerd", "-D").stderr
    program.unlink()
    # The refused start's ExecStopPost= must not touch the pod of the first.
    assert host.call("collect-pods", "--ended").returncode == 0
    assert (host.state / "pod-uuid").exists()
    first.communicate("go\n")
    assert host.call("dockerd").returncode == 0


def test_left_over_pod_is_set_aside(host: Host) -> None:
    host.set_up()
    uuid = "11111111-1111-4111-8111-111111111111"
    (host.state / "pod-uuid").write_text(uuid)  # without a newline, as rkt writes it
    assert host.call("dockerd").returncode == 0
    assert not (host.state / "pod-uuid").exists()
    assert [path.name for path in (host.state / "old").iterdir()] == [uuid]
    assert (host.out / "argv").exists()


def test_collect_removes_the_pod_that_ended_and_relinks(host: Host) -> None:
    uuid = "22222222-2222-4222-8222-222222222222"
    (host.root / "var/lib/rkt/pods/run" / uuid).mkdir()
    (host.state / "pod-uuid").write_text(uuid)
    (host.run / "docker").symlink_to(uuid)
    assert host.call("collect-pods", "--ended").returncode == 0
    assert host.argv() == ["rm", uuid]
    assert os.readlink(host.run / "docker") == "engine"
    assert list((host.state / "old").iterdir()) == []


def test_collect_tries_again_what_failed_and_forgets_what_is_gone(host: Host) -> None:
    kept, gone = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"
    (host.root / "var/lib/rkt/pods/exited-garbage" / kept).mkdir(parents=True)
    for uuid in (kept, gone):
        (host.state / "old" / uuid).touch()
    (host.out / "fails").touch()
    done = host.call("collect-pods")
    assert done.returncode == 1
    assert kept in done.stderr
    assert [path.name for path in (host.state / "old").iterdir()] == [kept]
    (host.out / "fails").unlink()
    assert host.call("collect-pods").returncode == 0
    assert list((host.state / "old").iterdir()) == []


def test_collect_removes_what_was_cut_off_while_it_was_prepared(host: Host) -> None:
    cut, busy = "55555555-5555-4555-8555-555555555555", "66666666-6666-4666-8666-666666666666"
    for uuid in (cut, busy):
        (host.root / "var/lib/rkt/pods/prepare" / uuid).mkdir(parents=True)
    host.program(
        host.root / "opt/skim/bin/rkt",
        f"""#!/bin/sh
        case "$*" in
        "status {cut}") echo "state=aborted prepare" ;;
        status*) echo state=preparing ;;
        rm*) echo "$2" >>@OUT@/removed ;;
        esac
        """,
    )
    assert host.call("collect-pods").returncode == 0
    assert (host.out / "removed").read_text().split() == [cut]


@pytest.mark.parametrize(("result", "counted"), [("success", False), ("exit-code", True)])
def test_only_failures_count_for_the_start_limit(host: Host, result: str, counted: bool) -> None:
    host.program(host.root / "bin/systemctl", FAKE)
    path = f"{host.root}/bin:{os.environ['PATH']}"
    host.call("collect-pods", "--ended", environment={"PATH": path, "SERVICE_RESULT": result, "SKIM_UNIT": "docker.service"})
    assert (host.out / "argv").exists() is not counted
    if not counted:
        assert host.argv() == ["reset-failed", "docker.service"]


def test_collect_with_nothing_there(host: Host) -> None:
    assert host.call("collect-pods").returncode == 0
    assert host.call("collect-pods", "--ended").returncode == 0
    assert not (host.out / "argv").exists()
