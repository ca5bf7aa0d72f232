"""Completions of the shells, and manual pages.

Completions and manual pages are what flatcar#974 and coreos bugs#22 miss.
"""

from __future__ import annotations

import pytest

from hosts.host import Host
from stock.marks import differs

# What bash does when somebody presses Tab after the words, the last of which is unfinished.
BASH = """\
. /usr/share/bash-completion/bash_completion
complete_words() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
    COMP_POINT=${#COMP_LINE}
    _completion_loader "$1"
    local how=$(complete -p "$1")
    how=${how##*-F }
    ${how%% *} "$1" "${@: -1}" "${@: -2:1}"
    printf '%s\\n' "${COMPREPLY[@]}"
}
"""


def bash(host: Host, words: str) -> list[str]:
    return host.check(["bash", "--norc", "-ic", f"{BASH}complete_words {words}"]).split()


def test_bash_completes_commands(host: Host) -> None:
    assert bash(host, "docker ru") == ["run"]


def test_bash_completes_names_of_containers(docker: Host) -> None:
    docker.check("docker run --name finished_by_bash busybox /bin/busybox true")
    assert bash(docker, "docker start finished_b") == ["finished_by_bash"]


def test_bash_completes_ctr_and_runc(host: Host) -> None:
    assert bash(host, "runc sta") == ["start", "state"]
    assert "containers" in bash(host, "ctr containers")


def test_zsh_has_completions(host: Host) -> None:
    found = host.check(
        [
            "zsh",
            "-fc",
            "autoload -U compinit; compinit -uD; echo $_comps[docker] $_comps[ctr]; autoload -X +X _docker _ctr; which _docker | wc -l",
        ]
    )
    names, lines = found.splitlines()
    assert names == "_docker _ctr"
    assert int(lines) > 100


def test_zsh_completes_commands(docker: Host) -> None:
    with docker.terminal(["zsh", "-f"], environment={"PS1": "ready> "}) as shell:
        shell.expect("ready> ")
        shell.send("autoload -U compinit; compinit -uD; echo load''ed\n")
        shell.expect("loaded\r\n")
        shell.expect("ready> ")
        shell.send("docker netw\tl\t-q > /tmp/of-zsh; echo en''ded\n")
        shell.expect(r"ended\r\n")
    assert docker.check("cat /tmp/of-zsh") == docker.check("docker network ls -q")


def test_fish_completes_commands(host: Host) -> None:
    assert [line.split("\t")[0] for line in host.check(["fish", "-c", 'complete -C "docker ru"']).splitlines()] == ["run"]


def test_fish_completes_names_of_containers(docker: Host) -> None:
    docker.check("docker run --name finished_by_fish busybox /bin/busybox true")
    assert "finished_by_fish" in docker.check(["fish", "-c", 'complete -C "docker start finished_b"'])


@pytest.mark.parametrize(
    "page", ["docker", "docker-run", "docker-network-create", "dockerd", "containerd", "ctr", "runc", "runc-exec", "Dockerfile"]
)
def test_a_manual_page_is_found_and_shown(host: Host, page: str) -> None:
    assert host.check(["man", "-w", page]).strip().endswith(".gz")
    assert len(host.check(["man", page], environment={"MANPAGER": "cat"}).splitlines()) > 10


@differs("stock", "Debian 12 has no packages of docker compose and docker buildx for its Docker")
def test_manual_pages_of_the_plugins_are_found(host: Host) -> None:
    assert host.check("man -w docker-buildx-build docker-compose-up").count(".gz") == 2


def test_whatis_knows_docker(host: Host) -> None:
    host.check("mandb --quiet")
    assert "docker (1)" in host.check("whatis docker")
