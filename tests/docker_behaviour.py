"""What a host with the appliance must do, whether it is a container or a virtual machine: the tests of both inherit this class."""

from __future__ import annotations

import re
import time

import pytest

from hosts.host import Host

MAKE_BUSYBOX = """\
mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && ln -sf busybox /tmp/image/bin/sh
tar -C /tmp/image -c . | docker import - busybox
"""
COUNTER = "n=0; while :; do n=$((n + 1)); echo $n > /count/n; /bin/busybox sleep 0.1; done"
# One start and stop, and in some a container; every part of it has to work.
CYCLE = """\
set -e
systemctl start docker
docker version -f '{{{{.Server.Version}}}}'
! {run} || docker run --rm busybox /bin/busybox echo ran
systemctl stop docker
"""
ENGINE_PROCESSES = "dockerd|containerd|docker-proxy"


def pod_uuid(host: Host) -> str:
    return host.check("cat /var/lib/skim/pod-uuid").strip()


def main_pid(host: Host, unit: str) -> int:
    return int(host.check(["systemctl", "show", "--value", "-p", "MainPID", unit]))


def processes(host: Host, pattern: str) -> list[str]:
    """Command lines of the host that match, by /proc: there is no ps."""
    text = host.check("for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline; echo; done 2>/dev/null")
    return [line for line in text.splitlines() if re.search(pattern, line)]


def count(host: Host) -> int:
    return int(host.check("cat /tmp/count/n || echo 0").split()[0])


def assert_counting(host: Host) -> None:
    before = count(host)
    host.wait_until(f"[ $(cat /tmp/count/n) -gt {before} ]", timeout=10)


class DockerHost:
    """Needs a fixture `docker_host`: the appliance installed and set up on it."""

    @pytest.fixture
    def docker(self, docker_host: Host) -> Host:
        """The host with docker.service up and no configuration, no containers on it, and busybox in its images."""
        docker_host.check("systemctl reset-failed docker.service 2>/dev/null; systemctl start docker")
        if docker_host.run("docker image inspect busybox").status != 0:
            docker_host.check(MAKE_BUSYBOX)
        docker_host.check("docker ps -aq | xargs -r docker rm -f")
        docker_host.check("[ ! -e /etc/docker/daemon.json ] || { rm /etc/docker/daemon.json && systemctl restart docker; }")
        return docker_host

    @pytest.fixture(params=["true"])
    def counting(self, docker: Host, request: pytest.FixtureRequest) -> Host:
        """A host with live-restore on, or as the parameter says, and a container that counts."""
        docker.write("/etc/docker/daemon.json", f'{{"live-restore": {request.param}}}')
        docker.check(
            f"systemctl reload docker && until docker info -f '{{{{.LiveRestoreEnabled}}}}' | grep -q {request.param}; do sleep 0.1; done"
        )
        docker.check("rm -rf /tmp/count; mkdir -p /tmp/count")
        docker.check(["docker", "run", "-d", "--name", "counter", "-v", "/tmp/count:/count", "busybox", "/bin/sh", "-c", COUNTER])
        docker.wait_until("[ -s /tmp/count/n ]", timeout=10)
        return docker


class DockerEveryday(DockerHost):
    """What everybody does with Docker, on every kind of host."""

    def test_start_returns_with_dockerd_answering(self, docker: Host) -> None:
        docker.check("systemctl stop docker docker.socket")
        info = docker.check("systemctl start docker && docker info")
        assert "Server Version:" in info
        assert docker.check("systemctl is-active docker").strip() == "active"

    def test_client_and_server_are_of_the_engine(self, docker: Host) -> None:
        client, server = docker.check("docker version -f '{{.Client.Version}} {{.Server.Version}}'").split()
        assert client == server
        assert docker.check("docker info -f '{{.DefaultRuntime}} {{.RuncCommit.ID}}'").startswith("runc ")

    def test_containerd_comes_up_before_dockerd(self, docker: Host) -> None:
        uuid = pod_uuid(docker)
        times = [
            int(docker.check(["systemctl", "show", "--value", "-p", f"{when}TimestampMonotonic", f"{app}-rkt-{uuid}.service"]))
            for app, when in (("containerd", "ActiveEnter"), ("docker", "InactiveExit"))
        ]
        assert 0 < times[0] <= times[1]

    def test_a_published_port_answers(self, docker: Host) -> None:
        docker.check("mkdir -p /tmp/www && echo it works > /tmp/www/index.html")
        docker.check("docker run -d --name web -p 8080:80 -v /tmp/www:/www:ro busybox /bin/busybox httpd -f -h /www")
        assert docker.wait_until("/bin/busybox wget -qO- http://127.0.0.1:8080/", timeout=10) == "it works\n"

    def test_containers_reach_each_other_by_network(self, docker: Host) -> None:
        docker.check("docker network create -d bridge pair")
        docker.check("docker run -d --name server --network pair busybox /bin/busybox nc -ll -p 7 -e /bin/busybox cat")
        ask = "echo across | /bin/busybox nc -w 2 server 7"
        said = docker.check(["docker", "run", "--rm", "--network", "pair", "busybox", "/bin/sh", "-c", ask])
        docker.check("docker rm -f server && docker network rm pair")
        assert said == "across\n"

    def test_a_volume_keeps_what_is_written(self, docker: Host) -> None:
        docker.check("docker run --rm -v kept:/data busybox /bin/sh -c 'echo 1 > /data/file'")
        assert docker.check("docker run --rm -v kept:/data busybox /bin/busybox cat /data/file; docker volume rm kept >/dev/null") == "1\n"

    def test_a_terminal_in_a_container(self, docker: Host) -> None:
        with docker.terminal("docker run --rm -it busybox /bin/sh", rows=33, columns=101) as terminal:
            terminal.expect("# ")
            terminal.send("/bin/busybox stty size; exit 5\n")
            terminal.expect("33 101")
            assert terminal.wait() == 5

    def test_memory_limit_reaches_the_container(self, docker: Host) -> None:
        command = "/bin/busybox cat /sys/fs/cgroup/memory.max 2>/dev/null || /bin/busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
        assert docker.check(["docker", "run", "--rm", "--memory", "64m", "busybox", "/bin/sh", "-c", command]).strip() == str(64 << 20)

    def test_an_image_is_built(self, docker: Host) -> None:
        docker.check("mkdir -p /tmp/build")
        docker.write("/tmp/build/Dockerfile", 'FROM busybox\nRUN ["/bin/busybox", "touch", "/made"]\nCMD ["/bin/busybox", "ls", "/made"]\n')
        docker.check("docker build -t built /tmp/build", timeout=180)
        assert docker.check("docker run --rm built; docker rmi -f built >/dev/null") == "/made\n"

    def test_an_image_is_saved_and_loaded(self, docker: Host) -> None:
        docker.check("docker tag busybox travels && docker save travels -o /tmp/travels.tar && docker rmi travels")
        assert "travels" in docker.check("docker load -i /tmp/travels.tar")
        assert (
            docker.check("docker run --rm travels /bin/busybox echo arrived; docker rmi travels >/dev/null; rm /tmp/travels.tar")
            == "arrived\n"
        )

    def test_stop_leaves_nothing_running_and_start_works_again(self, docker: Host) -> None:
        docker.check("docker run -d --name sleeper busybox /bin/busybox sleep 1000")
        docker.check("systemctl stop docker docker.socket")
        assert processes(docker, ENGINE_PROCESSES + "|busybox sleep") == []
        assert docker.check("ls /run/skim").split() == ["docker", "docker.lock", "engine", "lib"]
        docker.check("systemctl start docker && docker start sleeper")

    def test_the_client_works_with_the_pod_down(self, docker: Host) -> None:
        docker.check("systemctl stop docker docker.socket")
        assert docker.check("docker --version").startswith("Docker version")
        assert "default" in docker.check("docker context ls")
        down = docker.run("docker ps")
        assert down.status == 1
        assert "Cannot connect to the Docker daemon" in down.stderr

    def test_the_socket_starts_the_service(self, docker: Host) -> None:
        docker.check("systemctl stop docker && systemctl start docker.socket")
        assert docker.run("systemctl is-active docker").stdout.strip() == "inactive"
        assert docker.check("docker info -f '{{.ServerVersion}}'").strip()
        assert docker.check("systemctl is-active docker").strip() == "active"


class DockerFaults(DockerHost):
    """What happens when a part of it dies, or is started and stopped again and again."""

    cycles = 30

    def test_containers_live_through_stop_and_start(self, counting: Host) -> None:
        counting.check("systemctl stop docker docker.socket")
        assert_counting(counting)
        assert processes(counting, "dockerd|bin/containerd ") == []
        counting.check("systemctl start docker")
        assert counting.check("docker inspect -f '{{.State.Running}} {{.RestartCount}}' counter").strip() == "true 0"
        assert_counting(counting)
        assert counting.check("docker exec counter /bin/busybox echo in").strip() == "in"
        counting.check("docker stop -t 1 counter && docker start counter")

    @pytest.mark.parametrize("app", ["docker", "containerd"])
    def test_a_killed_daemon_is_back_and_containers_never_stopped(self, counting: Host, app: str) -> None:
        uuid = pod_uuid(counting)
        unit = f"{app}-rkt-{uuid}.service"
        victim, started = main_pid(counting, unit), counting.check("docker inspect -f '{{.State.StartedAt}} {{.State.Pid}}' counter")
        counting.check(f"kill -9 {victim}")
        counting.wait_until(f"p=$(systemctl show --value -p MainPID {unit}); [ $p != 0 ] && [ $p != {victim} ]", timeout=20)
        counting.wait_until("docker exec counter /bin/busybox true", timeout=20)
        assert counting.check("docker inspect -f '{{.State.StartedAt}} {{.State.Pid}}' counter") == started
        assert_counting(counting)
        assert pod_uuid(counting) == uuid
        assert counting.check("systemctl is-active docker").strip() == "active"

    def test_a_killed_supervisor_fails_the_service_and_the_next_start_is_clean(self, docker: Host) -> None:
        old = pod_uuid(docker)
        docker.check(f"kill -9 {main_pid(docker, 'docker.service')}")
        docker.wait_until(f"! systemctl is-active docker-rkt-{old}.service", timeout=30)
        docker.wait_until('journalctl --sync; journalctl -u docker.service -o cat -n 50 | grep "with result .signal"', timeout=30)
        docker.check("systemctl start docker")
        docker.wait_until("docker info", timeout=30)
        new = pod_uuid(docker)
        assert new != old
        docker.wait_until(f"! ls /run/systemd/system | grep {old}", timeout=10)
        assert old not in docker.check("ls /run/skim; /opt/skim/bin/rkt list --full; cat /proc/self/mountinfo")

    def test_cycles_of_start_and_stop_leave_no_trace(self, docker: Host) -> None:
        docker.check(CYCLE.format(run="true"))
        before = self.traces(docker)
        version = docker.check("docker --version").split()[2].rstrip(",")
        for number in range(self.cycles):
            run = number % 5 == 0
            said = docker.check(CYCLE.format(run=str(run).lower())).split()
            assert said == [version, *(["ran"] if run else [])]
        until = time.monotonic() + 10 * docker.slowness  # what udev does of its own, for one, is over after a while
        while (after := self.traces(docker)) != before and time.monotonic() < until:
            pass
        for name, lines in before.items():
            assert after[name] == lines, name

    @staticmethod
    def traces(host: Host) -> dict[str, str]:
        """What could grow."""
        time.sleep(1)
        commands = {
            "units": "systemctl list-units --all --plain --no-legend --type=service,scope,slice,mount,socket | cut -d' ' -f1 | sort",
            "unit files": "ls /run/systemd/system /run/systemd/transient",
            "mounts": "cut -d' ' -f5 /proc/self/mountinfo | sort",
            "links": "ls -l /run/skim | sed 's/.*[0-9][0-9]:[0-9][0-9] //'",
            "pods": "ls /var/lib/rkt/pods/*; /opt/skim/bin/rkt list --full",
            "run": "find /run -path /run/udev -prune -o -path /run/user -prune -o -print | sort",
            "processes": "for p in /proc/[0-9]*; do readlink $p/exe >/dev/null && cat $p/comm; done 2>/dev/null"
            " | grep -vx -e cat -e grep -e sort -e sh -e readlink | sort",  # threads of the kernel have no program
            "cgroups": "find /sys/fs/cgroup -name '*rkt*' | grep -v 'system-rkt.slice$' | sort",
            "store": "ls /var/lib/rkt/cas /var/lib/rkt/cas/tree /var/lib/rkt/cas/tmp",
        }
        return {name: host.run(command).stdout for name, command in commands.items()}


class DockerService(DockerFaults):
    """The service's configuration, and that."""

    def test_logs_are_found_by_the_names_that_people_know(self, docker: Host) -> None:
        lines = docker.check("systemctl restart docker && journalctl --sync; journalctl -u docker -o cat --no-pager")
        assert "API listen on" in lines
        assert "containerd successfully booted" in docker.check("journalctl -u containerd -o cat --no-pager")

    def test_the_configuration_of_etc_docker_is_honoured(self, docker: Host) -> None:
        docker.write("/etc/docker/daemon.json", '{"labels": ["from=daemon.json"]}')
        try:
            assert docker.check("systemctl restart docker && docker info -f '{{.Labels}}'").strip() == "[from=daemon.json]"
        finally:
            docker.check("rm /etc/docker/daemon.json; systemctl restart docker")

    def test_a_broken_configuration_fails_with_dockerds_words(self, docker: Host) -> None:
        docker.write("/etc/docker/daemon.json", "{broken")
        try:
            assert docker.run("systemctl restart docker", timeout=60).status != 0
            assert "unable to configure the Docker daemon" in docker.check(
                "journalctl --sync; journalctl -u docker -o cat --no-pager -n 200"
            )
        finally:
            docker.check("rm /etc/docker/daemon.json; systemctl reset-failed docker; systemctl start docker")

    def test_environment_and_options_of_the_service_reach_dockerd(self, docker: Host) -> None:
        docker.check("mkdir -p /etc/systemd/system/docker.service.d")
        docker.write(
            "/etc/systemd/system/docker.service.d/test.conf",
            "[Service]\nEnvironment=HTTP_PROXY=http://127.0.0.1:9 DOCKER_OPTS=--label=a=b\n",
        )
        try:
            shown = docker.check("systemctl daemon-reload && systemctl restart docker && docker info -f '{{.HTTPProxy}} {{.Labels}}'")
            assert shown.strip() == "http://127.0.0.1:9 [a=b]"
        finally:
            docker.check("rm -r /etc/systemd/system/docker.service.d && systemctl daemon-reload && systemctl restart docker")

    def test_members_of_the_group_may_and_others_may_not(self, docker: Host) -> None:
        docker.check("id member 2>/dev/null || useradd --groups docker member; id other 2>/dev/null || useradd other")
        assert docker.check("docker run --rm busybox /bin/busybox id -u", user="member").strip() == "0"
        refused = docker.run("docker ps", user="other")
        assert refused.status == 1
        assert "permission denied" in refused.stderr

    @pytest.mark.parametrize("counting", ["true", "false"], indirect=True)
    def test_a_killed_containerd_is_back_and_dockerd_never_noticed(self, counting: Host) -> None:
        """Without live-restore a dockerd that is stopped stops every container: it may not be restarted because containerd is."""
        uuid = pod_uuid(counting)
        dockerd, unit = main_pid(counting, f"docker-rkt-{uuid}.service"), f"containerd-rkt-{uuid}.service"
        victim, started = main_pid(counting, unit), counting.check("docker inspect -f '{{.State.StartedAt}} {{.State.Pid}}' counter")
        counting.check(f"kill -9 {victim}")
        counting.wait_until(f"p=$(systemctl show --value -p MainPID {unit}); [ $p != 0 ] && [ $p != {victim} ]", timeout=20)
        counting.wait_until("docker exec counter /bin/busybox true", timeout=30)
        assert main_pid(counting, f"docker-rkt-{uuid}.service") == dockerd
        assert counting.check("docker inspect -f '{{.State.StartedAt}} {{.State.Pid}}' counter") == started
        assert_counting(counting)
        assert counting.check("docker run --rm busybox /bin/busybox echo a new one") == "a new one\n"
