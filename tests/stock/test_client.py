"""The client on the command line."""

from __future__ import annotations

from hosts.host import Host


def test_it_says_its_version(docker: Host) -> None:
    assert docker.check("docker --version").startswith("Docker version ")
