"""The client on the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts.host import ENVIRONMENT, Host
from stock.people import MEMBER, OTHER, add_people, add_plugin

COMMANDS = ("docker", "containerd", "ctr", "runc")
# What each says to a flag that it does not have, in every version that Debian 12 and 13 have.
TO_A_WRONG_FLAG = {
    "docker": "unknown flag: --nonsense\nSee 'docker --help'.\n",
    "containerd": "Incorrect Usage. flag provided but not defined: -nonsense\n\nNAME:\n   containerd - ",
    "ctr": "Incorrect Usage. flag provided but not defined: -nonsense\n\nNAME:\n   ctr - ",
    "runc": "Incorrect Usage. flag provided but not defined: -nonsense\n\nNAME:\n   runc - Open Container Initiative runtime\n",
}
PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-spy"


@pytest.fixture
def spy(docker: Host) -> Iterator[Host]:
    """The host, with a plugin of the client that leaves what it was given in /tmp/seen."""
    add_plugin(docker, PLUGIN)
    yield docker
    docker.check(f"rm -r {PLUGIN} /tmp/seen")


def test_arguments_of_any_bytes_arrive_as_they_are(spy: Host) -> None:
    every = bytes(range(1, 256))
    script = "docker spy " + " ".join(f"'{word}'" for word in ("", "a b", "$HOME `id` \\", "--x=%n", "*", "-")) + ' "$(cat)" x'
    spy.check(script, stdin=every)
    assert spy.read("/tmp/seen/argv").split(b"\0")[-9:] == [
        b"",
        b"a b",
        b"$HOME `id` \\",
        b"--x=%n",
        b"*",
        b"-",
        every.rstrip(b"\n"),
        b"x",
        b"",
    ]


def test_a_thousand_arguments_reach_a_container(docker: Host) -> None:
    script = "docker run --rm busybox sh -c 'echo $# ${1000}' sh $(seq 1000)"
    assert docker.check(script) == "1000 1000\n"


def test_the_environment_is_the_callers_and_nothing_else(spy: Host) -> None:
    spy.check(["docker", "spy"], environment={"ODD": "a\nb ü=", "EMPTY": ""})
    seen = dict(entry.split("=", 1) for entry in spy.read("/tmp/seen/environment").decode().split("\0") if entry)
    added = {name for name in seen if name.startswith(("DOCKER_CLI_PLUGIN_", "OTEL_"))}
    assert {name: value for name, value in seen.items() if name not in added} == {**ENVIRONMENT, "ODD": "a\nb ü=", "EMPTY": ""}


def test_a_variable_is_handed_on_to_a_container(docker: Host) -> None:
    assert docker.check("docker run --rm -e GIVEN busybox sh -c 'echo \"$GIVEN\"'", environment={"GIVEN": "a  b"}) == "a  b\n"


def test_the_working_directory_is_the_callers(spy: Host) -> None:
    spy.check("mkdir -p '/tmp/a b' && cd '/tmp/a b' && docker spy")
    assert spy.read("/tmp/seen/cwd") == b"/tmp/a b\n"


def test_relative_paths_are_the_callers(docker: Host) -> None:
    docker.check("mkdir -p /tmp/here && echo carried > /tmp/here/file && docker create --name box busybox sh")
    assert docker.check("cd /tmp/here && docker cp file box:/file && docker cp box:/file ./back && cat back") == "carried\n"


def test_every_exit_status_arrives(spy: Host) -> None:
    loop = "for n in $(seq 0 255); do SEEN_STATUS=$n docker spy >/dev/null; [ $? = $n ] || echo $n; done"
    assert spy.check(loop, timeout=240) == ""


def test_exit_statuses_of_containers_arrive(docker: Host) -> None:
    docker.check("docker run -d --name box busybox sh -c 'while :; do /bin/busybox sleep 1; done'")
    loop = 'for n in 0 1 2 63 124 125 126 127 128 130 137 143 254 255; do docker exec box sh -c "exit $n"; [ $? = $n ] || echo $n; done'
    assert docker.check(loop) == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("docker run --rm busybox sh -c 'exit 42'", 42),
        ("docker run --rm busybox /nothing", 127),
        ("docker run --rm busybox /bin", 126),
        ("docker run --nonsense", 125),
        ("docker inspect nothing", 1),
    ],
)
def test_the_exit_status_is_dockers_own(docker: Host, command: str, status: int) -> None:
    assert docker.run(command).status == status


def test_a_hundred_megabytes_go_through_standard_input(docker: Host) -> None:
    docker.check("head -c 104857600 /dev/urandom > /tmp/random")
    here, there = docker.check(
        "sha256sum < /tmp/random; docker run -i --rm busybox /bin/busybox sha256sum < /tmp/random; rm /tmp/random", timeout=180
    ).splitlines()
    assert here == there


def test_standard_output_and_error_stay_apart(docker: Host) -> None:
    done = docker.run("docker run --rm busybox sh -c 'echo out; echo err >&2'")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_closed_pipe_ends_the_client(docker: Host) -> None:
    assert (
        docker.check("docker run --rm busybox sh -c 'while :; do echo y; done' | head -n 1; docker ps -q | xargs -r docker kill >/dev/null")
        == "y\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_flag_is_answered_in_the_commands_own_words(host: Host, command: str) -> None:
    done = host.run([command, "--nonsense"])
    assert done.status not in (0, 127)
    assert (done.stdout + done.stderr).lstrip("\n").startswith(TO_A_WRONG_FLAG[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_called_by_another_name_it_says_the_same_under_that_name(host: Host, command: str) -> None:
    host.check(f"mkdir -p /tmp/names && ln -sf $(command -v {command}) /tmp/names/another")
    other, own = host.run(["/tmp/names/another", "--nonsense"]), host.run([command, "--nonsense"])
    usage = (
        "Usage:  docker [OPTIONS] COMMAND" if command == "docker" else "USAGE:\n   another [global options] command"
    )  # docker is always docker
    assert usage in other.stdout + other.stderr
    assert (other.status, other.stdout.replace("   another [", f"   {command} [")) == (own.status, own.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_process_has_the_name_and_the_first_argument_that_it_was_called_with(docker: Host, command: str) -> None:
    waiting = {
        "docker": "docker events",
        "containerd": "containerd --root /tmp/c/root --state /tmp/c/state --address /tmp/c/c.sock",
        "ctr": "ctr events",
        "runc": "runc events box",
    }[command]
    if command == "runc":
        docker.check("docker run -d --name box busybox sh -c 'while :; do /bin/busybox sleep 1; done'")
        waiting = "runc --root /run/docker/runtime-runc/moby events $(docker inspect -f '{{.Id}}' box)"
    seen = docker.check(
        f"{waiting} >/dev/null 2>&1 & pid=$!; n=0\n"
        f'while [ "$(readlink /proc/$pid/exe)" = "$(readlink -f /bin/sh)" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.05; done\n'
        "cat /proc/$pid/comm; tr '\\0' '\\n' < /proc/$pid/cmdline | head -n 1; kill $pid; wait $pid"
        "; rm -rf /tmp/c; true"
    ).split()
    assert seen == [command, command]


def test_it_is_found_in_a_path_that_has_only_its_own_directory(docker: Host) -> None:
    folder = docker.check("dirname $(command -v docker)").strip()
    done = docker.check(["docker", "run", "--rm", "busybox", "/bin/busybox", "echo", "alone"], environment={"PATH": folder})
    assert done == "alone\n"


def test_it_works_through_a_symlink_of_its_own_name(docker: Host) -> None:
    docker.check("mkdir -p /tmp/names && ln -sf $(command -v docker) /tmp/names/docker")
    assert docker.check("/tmp/names/docker run --rm busybox /bin/busybox echo through") == "through\n"


def test_a_member_of_the_group_may(docker: Host) -> None:
    add_people(docker)
    assert docker.check("docker run --rm busybox /bin/busybox id -u", user=MEMBER) == "0\n"


def test_anybody_else_gets_the_permission_error(docker: Host) -> None:
    add_people(docker)
    done = docker.run("docker ps", user=OTHER)
    assert (done.status, done.stdout) == (1, "")
    assert "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get " in done.stderr
    assert done.stderr.endswith('/containers/json": dial unix /var/run/docker.sock: connect: permission denied\n')


def test_anybody_may_ask_for_the_version(host: Host) -> None:
    add_people(host)
    assert host.check("docker --version", user=OTHER).startswith("Docker version ")


def test_it_says_when_no_daemon_runs(docker: Host) -> None:
    docker.check("systemctl stop docker.service docker.socket")
    done = docker.run("docker ps")
    assert done.status == 1
    assert done.stderr.strip() == "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
