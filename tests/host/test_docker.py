"""Docker as an appliance on a host that is a container with a real systemd."""

from __future__ import annotations

from docker_behaviour import DockerEveryday, DockerService


class TestEveryday(DockerEveryday):
    """On cgroup v1 or v2, whichever this machine has."""


class TestService(DockerService):
    """The same host, after that."""
