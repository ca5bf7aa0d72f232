"""Where the appliance's things are on a host."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from poddir.layout import roots_directory

DEFAULT_PREFIX = "/opt/skim"
APPS = ("containerd", "docker")
"""The docker pod's apps, in the order in which they start."""


class Layout(NamedTuple):
    """Paths on the host below `root`, which is "" but in tests. Texts that name paths (units, links) never contain `root`."""

    root: str = ""
    prefix: str = DEFAULT_PREFIX

    def at(self, path: str) -> str:
        """Where the host's absolute `path` is for us."""
        return self.root + path

    @property
    def rkt(self) -> str:
        return self.at(f"{self.prefix}/bin/rkt")

    @property
    def collect_pods(self) -> str:
        return self.at(f"{self.prefix}/libexec/collect-pods")

    @property
    def configuration(self) -> str:
        return self.at("/etc/skim/docker.conf")

    @property
    def units(self) -> str:
        """Ours: before a distribution's, after the administrator's own, so that a unit of ours can be masked (systemd.unit(5))."""
        return self.at("/etc/systemd/system.attached")

    @property
    def unit_sources(self) -> str:
        """Where the files of `make install`, or of a package, have our docker.service, until setup puts it to `units`."""
        return self.at(f"{self.prefix}/lib/systemd/system")

    @property
    def replaced(self) -> str:
        """What of somebody else's is kept while ours is in its place, by its path; shared with install.sh."""
        return self.at(f"{self.prefix}/share/skim/replaced")

    @property
    def state(self) -> str:
        return self.at("/var/lib/skim")

    @property
    def record(self) -> str:
        """The active engine, sourced by the dockerd wrapper."""
        return self.at("/var/lib/skim/engine.env")

    @property
    def before(self) -> str:
        """What the host was like before the first setup."""
        return self.at("/var/lib/skim/before.json")

    @property
    def unfinished(self) -> str:
        """There while a first setup, or a removal, has begun and not ended."""
        return self.at("/var/lib/skim/unfinished")

    @property
    def pod_uuid(self) -> str:
        return self.at("/var/lib/skim/pod-uuid")

    @property
    def data(self) -> str:
        return self.at("/var/lib/rkt")

    @property
    def roots(self) -> str:
        """Names the engine's images to `rkt image gc`, which would take one that has been down for a day for unused."""
        return os.path.join(roots_directory(self.data), "skim-engine")

    @property
    def run(self) -> str:
        return self.at("/run/skim")

    @property
    def way(self) -> str:
        """The link that leads to the docker pod, or to the installed engine while no pod runs."""
        return self.at("/run/skim/docker")

    def engine_root(self, app: str) -> str:
        """The installed engine's rendered image of `app`."""
        return self.at(f"/run/skim/engine/{app}")


def installed_layout() -> Layout:
    """The layout of the host this runs on: the prefix is where the frozen program lies, `PREFIX/lib/skim/skim`."""
    if getattr(sys, "frozen", False):
        return Layout(prefix=os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))))
    return Layout()
