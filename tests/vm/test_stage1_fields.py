"""What becomes of isolators where control groups are of version 2."""

from __future__ import annotations

import pytest

import field_pods
import running_pods
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


def test_who_needs_more_memory_is_killed_and_systemd_says_so(pods: field_pods.FieldPods) -> None:
    result = pods.run(pods.shell("exec tail /dev/zero", isolators=[{"name": "resource/memory", "value": {"limit": "16Mi"}}]))
    assert result.status == 9
    assert 'app "app" failed: oom-kill' in result.stderr


def test_a_pod_is_stopped_in_order_and_collected_whole(pods: field_pods.FieldPods) -> None:
    host = pods.host
    serve = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.2; done"
    mounts = [{"volume": "e", "path": "/mnt"}]
    entries = [pods.shell(serve, "one", mounts=mounts), pods.shell(serve, "two", user="web", mounts=mounts)]
    pods.write(*entries, volumes=[{"name": "e", "kind": "empty"}])
    host.check(f"rm -f /tmp/uuid; ({pods.command()} >/tmp/output 2>&1; echo $? >/tmp/status) </dev/null >/dev/null 2>&1 &")
    host.wait_until(f"{running_pods.RKT} status --wait-ready=20s --uuid-file=/tmp/uuid", timeout=60)
    uuid = host.check("cat /tmp/uuid")
    host.check(f"{running_pods.RKT} stop {uuid}")
    host.wait_until("grep -qx 0 /tmp/status", timeout=60)
    assert running_pods.ends(host, uuid, "one", "two") == ["two", "one"]
    status = host.check(f"{running_pods.RKT} status {uuid}").splitlines()
    assert {"state=exited", "app-one=0", "app-two=0"} <= set(status)
    assert host.check(f"{running_pods.RKT} gc --grace-period=0s").splitlines()[-1] == f'Garbage collecting pod "{uuid}"'
    assert running_pods.leftovers(host, uuid) == ""
