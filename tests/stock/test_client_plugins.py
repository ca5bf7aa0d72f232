"""Plugins of the client.

Plugins are what flatcar#974 misses.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts.host import Host
from stock.marks import differs
from stock.people import MEMBER, add_people, add_plugin

NOT_PACKAGED = "Debian 12 has no packages of docker compose and docker buildx for its Docker; the engine of Debian 13 has them"
COMPOSE = """\
services:
  web:
    image: busybox
    command: /bin/busybox sh -c 'echo up; while :; do /bin/busybox sleep 1; done'
  once:
    image: busybox
    command: /bin/busybox wget -qO- http://web:1/
    depends_on: [web]
"""


@differs("stock", NOT_PACKAGED)
def test_compose_brings_services_up_and_takes_them_down(docker: Host) -> None:
    docker.write("/tmp/project/compose.yaml", COMPOSE)
    docker.check("cd /tmp/project && docker compose up --detach web", timeout=60)
    assert docker.check("cd /tmp/project && docker compose ps --services --status running") == "web\n"
    assert docker.check("cd /tmp/project && docker compose exec -T web /bin/busybox echo inside") == "inside\n"
    docker.check("cd /tmp/project && docker compose down --timeout 0", timeout=60)
    assert docker.check("docker ps -aq; docker network ls --filter name=project -q") == ""


@differs("stock", NOT_PACKAGED)
def test_buildx_builds(docker: Host) -> None:
    docker.write("/tmp/build/Dockerfile", 'FROM busybox\nARG WORD\nRUN echo "$WORD" > /made\nCMD ["/bin/busybox", "cat", "/made"]\n')
    docker.check("docker buildx build --build-arg WORD=built --tag made --load /tmp/build", timeout=120)
    assert docker.check("docker run --rm made; docker rmi made >/dev/null") == "built\n"


@differs("stock", NOT_PACKAGED)
def test_the_client_names_compose_and_buildx(host: Host) -> None:
    assert set(host.check("docker info -f '{{range .ClientInfo.Plugins}}{{.Name}} {{end}}'").split()) >= {"buildx", "compose"}


@pytest.mark.parametrize("folder", ["/usr/local/lib/docker", "/usr/local/libexec/docker", "/usr/lib/docker", "/usr/libexec/docker"])
def test_a_plugin_in_a_directory_of_the_host_is_found(host: Host, folder: str) -> None:
    try:
        add_plugin(host, f"{folder}/cli-plugins/docker-spy", says=folder)
        assert host.check("docker spy") == f"{folder}\n"
    finally:
        host.check(f"rm {folder}/cli-plugins/docker-spy")


@pytest.fixture
def member(host: Host) -> Iterator[Host]:
    add_people(host)
    yield host
    host.check(f"rm -rf /home/{MEMBER}/.docker /tmp/configuration /tmp/seen /usr/local/lib/docker/cli-plugins/docker-spy")


def test_a_users_own_plugin_goes_before_the_hosts(member: Host) -> None:
    add_plugin(member, "/usr/local/lib/docker/cli-plugins/docker-spy", says="of the host")
    add_plugin(member, f"/home/{MEMBER}/.docker/cli-plugins/docker-spy", says="of the user")
    assert member.check("docker spy", user=MEMBER) == "of the user\n"
    assert member.check("docker spy") == "of the host\n"


def test_a_users_own_compose_goes_before_the_engines(member: Host) -> None:
    add_plugin(member, f"/home/{MEMBER}/.docker/cli-plugins/docker-compose", says="compose of the user")
    assert member.check("docker compose version", user=MEMBER) == "compose of the user\n"


def test_docker_config_has_plugins_of_its_own(member: Host) -> None:
    add_plugin(member, "/tmp/configuration/cli-plugins/docker-spy", says="of DOCKER_CONFIG")
    assert member.check("docker spy", environment={"DOCKER_CONFIG": "/tmp/configuration"}) == "of DOCKER_CONFIG\n"
    assert member.run("docker spy").status != 0


def test_extra_directories_of_the_configuration_are_searched(member: Host) -> None:
    add_plugin(member, "/tmp/configuration/more/docker-spy", says="from more")
    member.write("/tmp/configuration/config.json", '{"cliPluginsExtraDirs": ["/tmp/configuration/more"]}')
    assert member.check("docker --config /tmp/configuration spy") == "from more\n"
