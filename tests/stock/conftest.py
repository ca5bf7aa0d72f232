"""The same tests on a distribution's Docker and on the appliance, and the page about it.

A test that takes the fixture `docker`, `host` or `side` runs on both sides. `@differs(side, why)` marks a difference that is meant: the
test must fail there. `@only_ours(why)`, for what the other side has no counterpart to, is shown with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from hosts import cache, image, nspawn
from hosts.fixtures import need
from hosts.fixtures import progress as progress
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.page import PROPERTY, SIDES, VERSION, Page, properties_of


def pytest_configure(config: pytest.Config) -> None:
    if (target := os.environ.get("SKIM_STOCK_PAGE")) and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Page(Path(target)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not (item.get_closest_marker("only_ours") and _side(item) == "stock")]
    for item in items:
        if Path(__file__).parent in item.path.parents and isinstance(item, pytest.Function):
            item.user_properties.append((PROPERTY, properties_of(item)))
        side = _side(item)
        for marker in item.iter_markers("differs"):
            if marker.args[0] == side:
                item.add_marker(pytest.mark.xfail(strict=True, reason=marker.args[1]))


def _side(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("side") if callspec else None


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip, and say what is missing, where no such host can run."""
    need(nspawn.lacking())


@pytest.fixture(scope="session", params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    """`stock` or `ours`."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="session")
def host(side: str, progress: cache.Progress) -> Iterator[Host]:
    """A host that people work on, with Docker of this side, enabled and up; one for the session."""
    if side == "stock":
        made = NspawnHost(image.FLAVOURS["debian12-people-stock"], progress=progress)
    else:
        made = NspawnHost(image.FLAVOURS["debian12-people"], prepare=appliance.install, progress=progress)
    with made as host:
        host.boot()
        take_up(host, side)
        yield host


def take_up(host: Host, side: str) -> None:
    """From a booted host to one with Docker enabled and up."""
    if side == "stock":
        host.check("systemctl enable --now containerd.service docker.socket docker.service", timeout=300)
    else:
        host.check("/opt/skim/bin/skim setup && systemctl start docker.service", timeout=300)


PRISTINE = """\
changed=$(ls -d /etc/systemd/system/docker.service.d /etc/systemd/system/docker.socket.d /etc/systemd/system/containerd.service.d \
    /etc/docker/daemon.json /etc/default/docker.test 2>/dev/null)
[ ! -e /etc/default/docker.test ] || mv /etc/default/docker.test /etc/default/docker
if [ -n "$changed" ]; then
    rm -rf $changed
    systemctl daemon-reload
    systemctl stop docker.service docker.socket
fi
systemctl reset-failed 2>/dev/null
systemctl start docker.socket docker.service
docker image inspect busybox >/dev/null 2>&1 || {
    mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && ln -sf busybox /tmp/image/bin/sh
    tar -C /tmp/image -c . | docker import - busybox
}
docker ps -aq | xargs -r docker rm -f >/dev/null
docker network prune --force >/dev/null
docker volume prune --force >/dev/null
docker version -f '{{.Server.Version}}'
"""


@pytest.fixture
def docker(host: Host, request: pytest.FixtureRequest) -> Host:
    """The host with Docker as it comes: no drop-in, no daemon.json, no containers; `busybox` among its images, with /bin/sh."""
    version = host.check(PRISTINE).splitlines()[-1]
    request.node.user_properties.append((VERSION, version))
    return host


@pytest.fixture(scope="session")
def ours(progress: cache.Progress) -> Iterator[Host]:
    """For what has no counterpart on a distribution's Docker."""
    with NspawnHost(image.FLAVOURS["debian12-people"], prepare=appliance.install, progress=progress) as host:
        host.boot()
        take_up(host, "ours")
        yield host
