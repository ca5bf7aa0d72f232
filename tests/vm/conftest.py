"""Hosts in virtual machines for the tests: one for a module with the appliance on it, one for a module without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import appliance
from hosts import cache, vm
from hosts.fixtures import need
from hosts.fixtures import progress as progress
from hosts.vm import VmHost


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip, and say what is missing, where no such host can run."""
    need(vm.lacking())


@pytest.fixture(scope="module")
def bare_vm(progress: cache.Progress) -> Iterator[VmHost]:
    """Up, nothing of ours on it."""
    with VmHost(progress=progress) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def skim_vm(progress: cache.Progress) -> Iterator[VmHost]:
    """Up, the appliance's files on it and its images in the store, not set up."""
    with VmHost(prepare=appliance.install_with_images, progress=progress) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def docker_host(skim_vm: VmHost) -> VmHost:
    """The same, set up."""
    skim_vm.check("/opt/skim/bin/skim setup", timeout=600)
    return skim_vm
