"""What becomes of isolators where control groups are of version 2."""

from __future__ import annotations

import pytest

import field_pods
from hosts.vm import VmHost

ISOLATORS = [
    {"name": "resource/memory", "value": {"limit": "42Mi"}},
    {"name": "resource/cpu", "value": {"limit": "250m"}},
    {"name": "os/linux/cpu-shares", "value": 512},
    {"name": "os/linux/oom-score-adj", "value": 123},
    {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_CHOWN"]}},
    {"name": "os/linux/seccomp-remove-set", "value": {"set": ["reboot"], "errno": "EPERM"}},
]


@pytest.fixture(scope="module")
def pods(skim_vm: VmHost, tmp_path_factory: pytest.TempPathFactory) -> field_pods.FieldPods:
    return field_pods.make_field_pods(skim_vm, tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("user", ["0", "web"])
def test_isolators_reach_the_kernel(pods: field_pods.FieldPods, user: str) -> None:
    script = (
        "group=/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup); cat $group/memory.max $group/cpu.max $group/cpu.weight;"
        "cat /proc/$$/oom_score_adj; grep -E '^(CapBnd|Seccomp):' /proc/$$/status"
    )
    assert pods.host.run("test -e /sys/fs/cgroup/cgroup.controllers").status == 0
    result = pods.run(pods.shell(script, user=user, isolators=ISOLATORS))
    assert result.stdout.split() == [str(42 * 2**20), "25000", "100000", "50", "123", "CapBnd:", f"{1:016x}", "Seccomp:", "2"]
