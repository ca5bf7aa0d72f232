"""Kernel modules, where the kernel has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosts.host import Host
from stock.marks import only_ours


@pytest.fixture
def without_modules(ours: Host) -> Host:
    if Path("/proc/modules").exists():
        pytest.skip("the kernel of this machine has modules: tests/stock/test_boot.py is about those")
    ours.check("systemctl stop docker.service docker.socket")
    return ours


@only_ours("it loads no modules before it starts")
def test_a_kernel_without_modules_is_no_word_worth(without_modules: Host) -> None:
    without_modules.check("systemctl start docker && journalctl --sync")
    started = without_modules.check("systemctl show --value -p InvocationID docker").strip()
    lines = without_modules.check(f"journalctl -o cat --no-pager _SYSTEMD_INVOCATION_ID={started}")
    assert "modprobe" not in lines
    assert "load-modules" not in lines
    without_modules.check("docker version")


@only_ours("it loads no modules before it starts")
def test_without_its_list_the_start_goes_on(without_modules: Host) -> None:
    without_modules.check("mv /etc/modules-load.d/skim.conf /tmp/")
    try:
        without_modules.check("systemctl start docker && docker version")
    finally:
        without_modules.check("mv /tmp/skim.conf /etc/modules-load.d/")
