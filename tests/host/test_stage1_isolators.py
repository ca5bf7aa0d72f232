"""Isolators (contract section 5.3) on a real systemd: for root, which systemd restricts, and for others, which the launcher does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from field_pods import FieldPods

USERS = ["0", "web"]
STATUS = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp|Uid):' /proc/$$/status"
# setuid and setgid: busybox gives up privileges, whoever runs it.
ENOUGH_FOR_A_SHELL = (
    *("read", "write", "open", "openat", "close", "fstat", "stat", "lstat", "newfstatat", "statx", "ioctl", "fcntl", "lseek", "poll"),
    *("rt_sigaction", "rt_sigprocmask", "getcwd", "dup", "dup2", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "uname"),
    *(
        "mremap",
        "wait4",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "pipe",
        "pipe2",
        "getdents64",
        "sysinfo",
        "umask",
        "prctl",
        "setuid",
        "setgid",
    ),
)


def isolator(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "value": value}


def calls(kind: str, *names: str, errno: str = "") -> dict[str, Any]:
    return isolator(f"os/linux/seccomp-{kind}-set", {"set": list(names), **({"errno": errno} if errno else {})})


def status(pods: FieldPods, *isolators: dict[str, Any], user: str = "0", flags: str = "", script: str = "") -> dict[str, str]:
    """What the kernel says of an app with these isolators."""
    result = pods.run(pods.shell(STATUS + "; " + script, user=user, isolators=list(isolators)), flags=flags)
    assert result.status == 0, result.stderr
    return dict(re.findall(r"^(\w+):\t(\S+)", result.stdout, re.MULTILINE))


class TestResources:
    def test_memory_cpu_shares_and_score_reach_the_kernel(self, pods: FieldPods) -> None:
        script = (
            "path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup); cat /sys/fs/cgroup/memory$path/memory.limit_in_bytes;"
            "path=$(sed -n 's/^[0-9]*:[a-z,]*\\bcpu\\b[a-z,]*://p' /proc/self/cgroup); cd /sys/fs/cgroup/cpu$path;"
            "cat cpu.cfs_quota_us cpu.cfs_period_us cpu.shares; cat /proc/$$/oom_score_adj; sleep 1000"
        )
        isolators = [
            isolator("resource/memory", {"limit": "1G"}),
            isolator("resource/memory", {"request": "1", "limit": "42Mi"}),  # the last one counts
            isolator("resource/cpu", {"limit": "250m"}),
            isolator("os/linux/cpu-shares", 512),
            isolator("os/linux/oom-score-adj", 123),
        ]
        unified = pods.host.run("test -e /sys/fs/cgroup/cgroup.controllers").status == 0
        for user in USERS:
            with pods.running(pods.shell(script, isolators=isolators, user=user)) as uuid:
                wanted = {"MemoryMax": str(42 * 2**20), "CPUQuotaPerSecUSec": "250ms", "OOMScoreAdjust": "123"}
                wanted["CPUWeight" if unified else "CPUShares"] = "50" if unified else "512"
                assert {name: pods.property(uuid, "app", name) for name in wanted} == wanted
                if not unified:
                    output = pods.host.wait_until("[ $(wc -l < /tmp/output) -ge 5 ] && cat /tmp/output")
                    limit, quota, period, shares, score = output.split()
                    assert (limit, shares, score) == (str(42 * 2**20), "512", "123")
                    assert int(quota) / int(period) == 0.25

    def test_who_needs_more_memory_is_killed_and_the_pod_says_so(self, pods: FieldPods) -> None:
        entry = pods.shell("exec tail /dev/zero", isolators=[isolator("resource/memory", {"limit": "16Mi"})])
        result = pods.run(entry)
        assert result.status == 9
        unified = pods.host.run("test -e /sys/fs/cgroup/cgroup.controllers").status == 0
        # Of version 1 systemd does not hear of it.
        assert 'app "app" ' + ("failed: oom-kill" if unified else "was killed by signal 9") in result.stderr

    def test_it_is_the_apps_own_limit_that_is_hit(self, pods: FieldPods) -> None:
        groups = "/proc/self/cgroup"
        first = f"path=$(sed -n 's/^[0-9]*:memory://p' {groups}); grep '^oom_kill ' /sys/fs/cgroup/memory$path/memory.oom_control"
        second = f"path=$(sed -n 's/^0:://p' {groups}); grep '^oom_kill ' /sys/fs/cgroup$path/memory.events"
        script = f"tail /dev/zero; echo status $?; {first} || {second}"
        unit = {"skim/unit": "[Service]\nOOMPolicy=continue\n"}
        isolators = [isolator("resource/memory", {"limit": "16Mi"})]
        result = pods.run(pods.shell(script, isolators=isolators, annotations=unit))
        assert "status 137" in result.lines
        assert [int(line.split()[1]) for line in result.lines if line.startswith("oom_kill ")] == [1]

    def test_what_needs_namespaces_or_devices_is_named_and_the_app_runs(self, pods: FieldPods) -> None:
        entry = pods.shell(
            "echo runs",
            isolators=[
                isolator("os/linux/selinux-context", {"user": "u", "role": "r", "type": "t", "level": "l"}),
                isolator("os/unix/sysctl", {"kernel.msgmax": "65536"}),
                isolator("resource/block-bandwidth", {"default": True, "limit": "2M"}),
                isolator("resource/block-iops", {"default": True, "limit": "1000"}),
                isolator("resource/network-bandwidth", {"default": True, "limit": "1G"}),
            ],
        )
        result = pods.run(entry)
        assert (result.status, result.stdout) == (0, "runs\n")
        names = ["os/linux/selinux-context", "os/unix/sysctl", *(f"resource/{what}" for what in _RESOURCES)]
        said = [f'run: warning: app "app": isolator {name} is not supported by stage1_skim, and ignored' for name in names]
        assert result.stderr.splitlines() == said


_RESOURCES = ("block-bandwidth", "block-iops", "network-bandwidth")


class TestCapabilities:
    def test_the_default_is_all_of_them(self, pods: FieldPods) -> None:
        whole = pods.host.check("grep CapBnd /proc/1/status").split()[1]
        assert status(pods)["CapEff"] == status(pods)["CapBnd"] == whole
        assert status(pods)["Seccomp"] == "0"

    @pytest.mark.parametrize("user", USERS)
    def test_retain_leaves_those_alone(self, pods: FieldPods, user: str) -> None:
        found = status(pods, isolator("os/linux/capabilities-retain-set", {"set": ["CAP_NET_RAW", "CAP_SYS_BOOT"]}), user=user)
        assert int(found["CapBnd"], 16) == 1 << 13 | 1 << 22
        assert int(found["CapEff"], 16) == (1 << 13 | 1 << 22 if user == "0" else 0)

    @pytest.mark.parametrize("user", USERS)
    def test_remove_takes_those_alone(self, pods: FieldPods, user: str) -> None:
        whole = int(pods.host.check("grep CapBnd /proc/1/status").split()[1], 16)
        found = status(pods, isolator("os/linux/capabilities-remove-set", {"set": ["CAP_SETUID", "CAP_SYS_ADMIN"]}), user=user)
        assert int(found["CapBnd"], 16) == whole & ~(1 << 7 | 1 << 21)
        assert found["Uid"] == ("0" if user == "0" else "4242")

    def test_insecure_options_switch_it_off(self, pods: FieldPods) -> None:
        whole = pods.host.check("grep CapBnd /proc/1/status").split()[1]
        limited = isolator("os/linux/capabilities-retain-set", {"set": ["CAP_NET_RAW"]})
        assert status(pods, limited, flags="--insecure-options=capabilities,image")["CapBnd"] == whole

    @pytest.mark.parametrize(
        ("isolators", "said"),
        [
            ([isolator("os/linux/capabilities-retain-set", {"set": ["CAP_NO_SUCH"]})], "CAP_NO_SUCH is no capability of Linux"),
            (
                [isolator(f"os/linux/capabilities-{kind}-set", {"set": ["CAP_KILL"]}) for kind in ("retain", "remove")],
                "both a retain-set and a remove-set of capabilities",
            ),
        ],
    )
    def test_what_cannot_be_is_an_error(self, pods: FieldPods, isolators: list[dict[str, Any]], said: str) -> None:
        result = pods.run(pods.shell("true", isolators=isolators))
        assert result.status == 254
        assert said in result.stderr

    @pytest.mark.parametrize("user", USERS)
    def test_no_new_privileges(self, pods: FieldPods, user: str) -> None:
        assert status(pods, isolator("os/linux/no-new-privileges", True), user=user)["NoNewPrivs"] == "1"
        assert status(pods, isolator("os/linux/no-new-privileges", False), user=user)["NoNewPrivs"] == "0"


@pytest.mark.parametrize("user", USERS)
class TestSystemCalls:
    def test_remove_with_an_errno(self, pods: FieldPods, user: str) -> None:
        script = f"{STATUS}; /bin/busybox mkdir /tmp/x-$$; echo and goes on"
        result = pods.run(pods.shell(script, user=user, isolators=[calls("remove", "mkdir", "mkdirat", errno="EOWNERDEAD")]))
        assert "Owner died" in result.stderr
        assert result.lines[-1] == "and goes on"
        assert "Seccomp:\t2" in result.stdout
        assert f"NoNewPrivs:\t{0 if user == '0' else 1}" in result.stdout

    def test_a_call_that_nobody_knows_is_named(self, pods: FieldPods, user: str) -> None:
        result = pods.run(pods.shell("echo runs", user=user, isolators=[calls("remove", "mkdirr", "reboot", errno="EPERM")]))
        said = 'run: warning: app "app": mkdirr is no system call that this host knows, and it is ignored\n'
        assert (result.status, result.stdout, result.stderr) == (0, "runs\n", said)

    def test_remove_without_one_kills(self, pods: FieldPods, user: str) -> None:
        script = "/bin/busybox mkdir /tmp/x-$$; echo status $?"
        result = pods.run(pods.shell(script, user=user, isolators=[calls("remove", "mkdir", "mkdirat")]))
        assert result.stdout == "status 159\n"  # 128 + SIGSYS

    def test_retain_allows_those_and_what_every_program_needs(self, pods: FieldPods, user: str) -> None:
        script = "echo works; /bin/busybox mkdir /tmp/x-$$; echo status $?"
        result = pods.run(pods.shell(script, user=user, isolators=[calls("retain", *ENOUGH_FOR_A_SHELL)]))
        assert result.stdout == "works\nstatus 159\n"

    def test_retain_names_even_what_the_launcher_needs(self, pods: FieldPods, user: str) -> None:
        """Neither setresuid nor setgroups is among them: who becomes the user has done so before."""
        script = "echo works; /bin/busybox id -u"
        result = pods.run(pods.shell(script, user=user, isolators=[calls("retain", *ENOUGH_FOR_A_SHELL, errno="EPERM")]))
        assert result.lines == ["works", "0" if user == "0" else "4242"]

    @pytest.mark.parametrize("wildcard", ["@rkt/default-whitelist", "@docker/default-whitelist"])
    def test_the_default_whitelists(self, pods: FieldPods, user: str, wildcard: str) -> None:
        script = f"{STATUS}; unshare --uts true; mkdir /tmp/x-$$ && rmdir /tmp/x-$$ && echo the rest works"
        result = pods.run(pods.shell(script, user=user, isolators=[calls("retain", wildcard, errno="EXFULL")]))
        assert "Exchange full" in result.stderr
        assert result.lines[-1] == "the rest works"
        assert "Seccomp:\t2" in result.stdout

    @pytest.mark.parametrize(
        ("wildcard", "command"), [("@rkt/default-blacklist", "unshare --uts true"), ("@systemd/privileged", "/bin/busybox chroot /")]
    )
    def test_groups_to_remove(self, pods: FieldPods, user: str, wildcard: str, command: str) -> None:
        result = pods.run(pods.shell(f"{command}; true", user=user, isolators=[calls("remove", wildcard, errno="EXFULL")]))
        assert "Exchange full" in result.stderr

    @pytest.mark.parametrize("given", [calls("retain", "@appc.io/all"), calls("remove", "@appc.io/empty")])
    def test_all_and_empty(self, pods: FieldPods, user: str, given: dict[str, Any]) -> None:
        assert status(pods, given, user=user)["Seccomp"] == "0"

    def test_insecure_options_switch_it_off(self, pods: FieldPods, user: str) -> None:
        found = status(pods, calls("remove", "reboot"), user=user, flags="--insecure-options=seccomp,image")
        assert found["Seccomp"] == "0"

    def test_with_capabilities_at_once(self, pods: FieldPods, user: str) -> None:
        retained = isolator("os/linux/capabilities-retain-set", {"set": ["CAP_CHOWN"]})
        found = status(pods, retained, calls("remove", "reboot", "setuid", "setresuid", "setgroups", errno="EPERM"), user=user)
        assert (int(found["CapBnd"], 16), found["Seccomp"], found["Uid"]) == (1, "2", "0" if user == "0" else "4242")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (calls("remove", "@no/such"), "@no/such is not known"),
        (calls("remove", "reboot", errno="ENOSUCH"), "ENOSUCH is no error of Linux"),
        (calls("remove", "not a call"), "'not a call' is no system call"),
    ],
)
def test_a_filter_that_nobody_understands_is_an_error(pods: FieldPods, given: dict[str, Any], said: str) -> None:
    result = pods.run(pods.shell("true", isolators=[given]))
    assert result.status == 254
    assert said in result.stderr
