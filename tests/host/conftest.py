"""Hosts in containers for the tests: one for a module with the appliance on it, one for the session without it, a fresh one for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import appliance
import field_pods
import running_pods
from hosts import cache, nspawn
from hosts.fixtures import need
from hosts.fixtures import progress as progress
from hosts.host import Host
from hosts.nspawn import NspawnHost


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip, and say what is missing, where no such host can run."""
    need(nspawn.lacking())


@pytest.fixture(scope="session")
def bare_host(progress: cache.Progress) -> Iterator[Host]:
    """Up, nothing of ours on it, shared by the whole session: to look at, not to change."""
    with NspawnHost(progress=progress) as host:
        host.boot()
        yield host


@pytest.fixture
def fresh_host(progress: cache.Progress) -> Iterator[Host]:
    """Up, nothing of ours on it, for one test."""
    with NspawnHost(progress=progress) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def skim_host(progress: cache.Progress) -> Iterator[Host]:
    """Up, the appliance's files on it, not set up."""
    with NspawnHost(prepare=appliance.install, progress=progress) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def docker_host(skim_host: Host) -> Host:
    """The same, set up."""
    skim_host.check("/opt/skim/bin/skim setup", timeout=300)
    return skim_host


@pytest.fixture(scope="module")
def pods(skim_host: Host, tmp_path_factory: pytest.TempPathFactory) -> field_pods.FieldPods:
    """For pods of one field each: stage1_skim's, and no Docker."""
    return field_pods.make_field_pods(skim_host, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def pods_host(progress: cache.Progress) -> Iterator[Host]:
    """Up, with rkt, the stage1 and small images in its store, but no Docker."""
    with running_pods.pods_host(progress) as host:
        yield host
