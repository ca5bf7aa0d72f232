"""testinfra on our hosts: `inspected(host).service("docker").is_running`."""

from __future__ import annotations

from typing import Any

import testinfra.host  # type: ignore[import-untyped]
from testinfra.backend.base import BaseBackend, CommandResult  # type: ignore[import-untyped]

from hosts.host import Host


class HostBackend(BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands the way the host runs every other."""

    NAME = "skim-host"

    def __init__(self, host: Host) -> None:
        self.host = host
        super().__init__(host.name)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        line = self.get_command(command, *args)
        done = self.host.run(line)
        return self.result(done.status, line.encode(), done.stdout, done.stderr)


def inspected(host: Host) -> testinfra.host.Host:
    """testinfra's view of a host that is up."""
    return testinfra.host.Host(HostBackend(host))
