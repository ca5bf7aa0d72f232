"""What people set for Docker: drop-ins, environment files, daemon.json"""

from __future__ import annotations

import pytest

from hosts.host import Host
from stock.marks import differs
from stock.programs import dockerd_pid, drop_in, property_of, stop_docker

WRAPPER = """\
#!/bin/bash -e
export DOCKER_DRIVER=vfs
for arg in "$@"; do
    case "$arg" in --selinux-enabled*) exit 9 ;; esac
done
exec dockerd "$@"
"""
DEBIANS_UNIT = "Debian's unit has DOCKER_OPTS alone; the others are Container Linux's"


def restart(host: Host) -> None:
    host.check("systemctl daemon-reload; systemctl reset-failed docker.service 2>/dev/null; systemctl restart docker.service", timeout=200)


def labels(host: Host) -> str:
    return host.check("docker info -f '{{.Labels}}'").strip()


def group_file(host: Host, pid: int, controller: str, names: tuple[str, str]) -> str:
    """A file of the process's control group: names[0] with cgroup v2, names[1] in the hierarchy of `controller` of v1."""
    lines = [line.split(":", 2) for line in host.check(f"cat /proc/{pid}/cgroup").splitlines()]
    legacy = next((path for _, controllers, path in lines if controller in controllers.split(",")), None)
    unified = next((path for number, _, path in lines if number == "0"), "")
    path = f"/sys/fs/cgroup/{controller}{legacy}/{names[1]}" if legacy is not None else f"/sys/fs/cgroup{unified}/{names[0]}"
    return host.check(["cat", path]).strip()


def test_an_environment_of_a_drop_in_reaches_dockerd(docker: Host) -> None:
    drop_in(docker, "[Service]\nEnvironment=HTTP_PROXY=http://127.0.0.1:9 NO_PROXY=localhost\n")
    restart(docker)
    assert docker.check("docker info -f '{{.HTTPProxy}} {{.NoProxy}}'").strip() == "http://127.0.0.1:9 localhost"


def test_limits_of_a_drop_in_hold_for_dockerd(docker: Host) -> None:
    drop_in(docker, "[Service]\nLimitNOFILE=4096\nLimitCORE=12345\nOOMScoreAdjust=321\nNice=3\n")
    restart(docker)
    pid = dockerd_pid(docker)
    limits = docker.check(f"cat /proc/{pid}/limits")
    assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")] == ["4096"]
    assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file")] == ["12345"]
    assert docker.check(f"cat /proc/{pid}/oom_score_adj").strip() == "321"
    assert docker.check(f"ps -o ni= -p {pid}").strip() == "3"


def test_memory_and_cpu_limits_of_a_drop_in_hold_for_dockerd(docker: Host) -> None:
    drop_in(docker, "[Service]\nMemoryMax=700M\nCPUQuota=50%\nTasksMax=2345\n")
    restart(docker)
    pid = dockerd_pid(docker)
    assert group_file(docker, pid, "memory", ("memory.max", "memory.limit_in_bytes")) == str(700 << 20)
    assert group_file(docker, pid, "pids", ("pids.max", "pids.max")) == "2345"
    quota = group_file(docker, pid, "cpu", ("cpu.max", "cpu.cfs_quota_us")).split()[0]
    assert quota == "50000"


def test_a_drop_in_of_containerd_holds_for_containerd(docker: Host, side: str) -> None:
    if side == "ours":  # a host whose containerd.service is the distribution's
        docker.write("/lib/systemd/system/containerd.service", "[Service]\nExecStart=/bin/false\n")
    docker.write("/etc/systemd/system/containerd.service.d/limits.conf", "[Service]\nOOMScoreAdjust=111\n")
    docker.check("systemctl daemon-reload; systemctl stop docker.service docker.socket containerd.service 2>/dev/null; true")
    try:
        docker.check("systemctl reset-failed 2>/dev/null; systemctl start docker.service")
        assert docker.check("cat /proc/$(pgrep -x containerd)/oom_score_adj").strip() == "111"
    finally:
        stop_docker(docker)
        docker.check("rm -r /etc/systemd/system/containerd.service.d")
        docker.check("grep -q bin/false /lib/systemd/system/containerd.service && rm /lib/systemd/system/containerd.service; true")
        docker.check("systemctl daemon-reload; systemctl stop containerd.service 2>/dev/null; true")


def test_arguments_set_anew(docker: Host) -> None:
    drop_in(docker, "[Service]\nExecStart=\nExecStart=dockerd -H fd:// --containerd=/run/containerd/containerd.sock --label 'a=b c'\n")
    restart(docker)
    assert labels(docker) == "[a=b c]"


def test_arguments_set_anew_with_the_path_of_the_distributions_dockerd(docker: Host) -> None:
    drop_in(
        docker, "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock --label=a=b\n"
    )
    restart(docker)
    assert labels(docker) == "[a=b]"


def test_what_a_drop_in_runs_before_the_start(docker: Host) -> None:
    docker.check("rm -f /run/before")
    before, after = "pgrep -x dockerd || echo before > /run/before", "docker info > /run/post"
    drop_in(docker, f"[Service]\nExecStartPre=/bin/sh -c '{before}'\nExecStartPost=/bin/sh -c '{after}'\n")
    stop_docker(docker)
    docker.check("systemctl start docker.service")
    assert docker.check("cat /run/before") == "before\n"
    assert "Server Version" in docker.check("cat /run/post")


def test_a_start_that_what_is_run_before_it_refuses(docker: Host) -> None:
    stop_docker(docker)
    drop_in(docker, "[Service]\nExecStartPre=/bin/false\n")
    assert docker.run("systemctl start docker.service").status != 0
    assert docker.run("pgrep -x dockerd").status == 1


def test_on_failure_names_a_unit_that_is_started_when_it_fails(docker: Host) -> None:
    docker.write("/run/systemd/system/told.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /run/told\n")
    docker.check("rm -f /run/told")
    stop_docker(docker)
    drop_in(docker, "[Unit]\nOnFailure=told.service\n[Service]\nRestart=no\n")
    docker.write("/etc/docker/daemon.json", "{broken")
    assert docker.run("systemctl start docker.service", timeout=60).status != 0
    docker.wait_until("ls /run/told", timeout=20)


def test_options_in_etc_default_docker(docker: Host) -> None:
    docker.check("cp /etc/default/docker /etc/default/docker.test 2>/dev/null || : > /etc/default/docker.test")
    docker.write("/etc/default/docker", '# a comment\nDOCKER_OPTS="--label=x=y --label=two=2"\n')
    restart(docker)
    assert labels(docker) == "[two=2 x=y]" or labels(docker) == "[x=y two=2]"


@differs("stock", DEBIANS_UNIT)
def test_the_other_variables_of_container_linux(docker: Host) -> None:
    options = "DOCKER_CGROUPS=--exec-opt=native.cgroupdriver=cgroupfs DOCKER_OPT_BIP=--bip=172.31.7.1/24 DOCKER_OPT_MTU=--mtu=1400"
    drop_in(docker, f"[Service]\nEnvironment={options} DOCKER_OPT_IPMASQ=--ip-masq=true DOCKER_SELINUX=--selinux-enabled=false\n")
    restart(docker)
    shown = docker.check(
        "docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}} {{index .Options \"com.docker.network.driver.mtu\"}}'"
    )
    assert shown.split() == ["172.31.7.1", "1400"]


def test_the_variable_that_names_a_storage_driver(docker: Host) -> None:
    """DOCKER_DRIVER, as Container Linux's wrapper exports it."""
    drop_in(docker, "[Service]\nEnvironment=DOCKER_DRIVER=vfs\n")
    restart(docker)
    assert docker.check("docker info -f '{{.Driver}}'").strip() == "vfs"


@differs("stock", DEBIANS_UNIT)
def test_the_file_that_flannel_writes(docker: Host) -> None:
    docker.write("/run/flannel/flannel_docker_opts.env", "DOCKER_OPT_BIP=--bip=172.31.8.1/24\n")
    try:
        restart(docker)
        assert docker.check("docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}}'").strip() == "172.31.8.1"
    finally:
        docker.check("rm -r /run/flannel")


def test_a_wrapper_script_that_ends_in_dockerd(docker: Host) -> None:
    """As /usr/lib/coreos/dockerd of Container Linux does."""
    docker.write("/usr/lib/coreos/dockerd", WRAPPER, mode=0o755)
    arguments = "--host=fd:// --containerd=/run/containerd/containerd.sock --label=by=wrapper"
    drop_in(docker, f"[Service]\nExecStart=\nExecStart=/usr/lib/coreos/dockerd {arguments}\n")
    restart(docker)
    assert docker.check("docker info -f '{{.Driver}} {{.Labels}}'").strip() == "vfs [by=wrapper]"


def test_settings_of_daemon_json(docker: Host) -> None:
    docker.write(
        "/etc/docker/daemon.json", '{"labels": ["a=b"], "data-root": "/srv/docker", "bip": "172.31.9.1/24", "log-driver": "journald"}'
    )
    restart(docker)
    assert docker.check("docker info -f '{{.Labels}} {{.DockerRootDir}} {{.LoggingDriver}}'").strip() == "[a=b] /srv/docker journald"
    assert docker.check("ls /srv/docker/overlay2")
    docker.check("tar -C /tmp/image -c . | docker import - busybox")
    docker.check("docker run --name speaks busybox /bin/busybox echo to the journal")
    docker.wait_until("journalctl --sync; journalctl CONTAINER_NAME=speaks -o cat --no-pager | grep 'to the journal'", timeout=10)
    assert docker.check("docker logs speaks") == "to the journal\n"


@differs("stock", "dockerd refuses `hosts` in daemon.json while its unit says -H fd://; ours leaves that out then")
def test_hosts_in_daemon_json(docker: Host) -> None:
    """moby#25471"""
    docker.write("/etc/docker/daemon.json", '{"hosts": ["fd://", "tcp://127.0.0.1:2376"], "tls": false}')
    restart(docker)
    assert docker.check("docker -H tcp://127.0.0.1:2376 info -f '{{.ID}}'") == docker.check("docker info -f '{{.ID}}'")


def test_hosts_in_daemon_json_with_arguments_set_anew(docker: Host) -> None:
    drop_in(docker, "[Service]\nExecStart=\nExecStart=dockerd --containerd=/run/containerd/containerd.sock\n")
    docker.write("/etc/docker/daemon.json", '{"hosts": ["fd://", "tcp://127.0.0.1:2376"], "tls": false}')
    restart(docker)
    assert docker.check("docker -H tcp://127.0.0.1:2376 info -f '{{.ID}}'") == docker.check("docker info -f '{{.ID}}'")


def test_a_unit_that_is_not_to_be_started_again(docker: Host) -> None:
    drop_in(docker, "[Service]\nRestart=no\n")
    restart(docker)
    docker.check("systemctl stop docker.socket 2>/dev/null & kill -9 $(cat /run/docker.pid)")
    docker.wait_until("systemctl show --value -p ActiveState docker.service | grep -e failed -e inactive", timeout=30)
    assert docker.run("pgrep -x dockerd").status == 1


@pytest.mark.parametrize("name", ["docker.service", "docker.socket"])
def test_units_are_shown_with_their_drop_ins(docker: Host, name: str) -> None:
    path = f"/etc/systemd/system/{name}.d/mine.conf"
    docker.write(path, "[Unit]\nDescription=mine\n")
    docker.check("systemctl daemon-reload")
    assert property_of(docker, name, "DropInPaths") == path
    assert f"# {path}" in docker.check(["systemctl", "cat", name])


def test_another_mode_and_group_of_the_socket(docker: Host) -> None:
    stop_docker(docker)
    docker.write("/etc/systemd/system/docker.socket.d/mine.conf", "[Socket]\nSocketGroup=adm\nSocketMode=0666\n")
    docker.check("systemctl daemon-reload; systemctl start docker.service")
    assert docker.check("stat -c '%U %G %a' /run/docker.sock").strip() == "root adm 666"
    assert docker.run("docker info", user="nobody").status == 0
