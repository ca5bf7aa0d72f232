"""Images that aci-build has not made, on a host whose C library is older than theirs: their programs run with their own libraries."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import appliance
import foreign_roots
from hosts import cache
from hosts.host import Host
from hosts.nspawn import NspawnHost

RKT = "/opt/skim/bin/rkt --insecure-options=image"
TREES = "/var/lib/rkt/cas/tree"
LAYERS = "/var/lib/skim/relocated"

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def host(progress: cache.Progress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("foreign")
    images = [foreign_roots.write_redis_image(folder, progress=progress), foreign_roots.write_web_image(folder, progress=progress)]
    with NspawnHost(prepare=appliance.install_without_engine, progress=progress) as host:
        host.boot()
        for image in images:
            host.push(image, f"/tmp/{image.name}")
            host.check(f"{RKT} fetch /tmp/{image.name}", timeout=120)
        yield host


@contextmanager
def running(host: Host, *, flags: str = "", apps: str = "/tmp/redis.aci /tmp/web.aci") -> Iterator[str]:
    """The UUID of the pod, which answers."""
    host.check("rm -f /tmp/uuid")
    command = f"exec {RKT} run --stage1-path=/opt/skim/images/stage1-skim.aci --uuid-file-save=/tmp/uuid {flags} {apps} > /tmp/output 2>&1"
    process = host.popen(command, stdin=subprocess.DEVNULL)
    uuid = host.wait_until("[ -s /tmp/uuid ] && cat /tmp/uuid", timeout=60).strip()
    try:
        ready = host.run(f"{RKT} status --wait-ready=60s {uuid}", timeout=90)
        assert ready.status == 0, ready.stderr + host.check("cat /tmp/output")
        yield uuid
    finally:
        host.run(f"{RKT} stop --force {uuid}")
        process.wait(30)
        host.check(f"{RKT} rm {uuid}")


def ask(host: Host, path: str) -> object:
    host.wait_until("for port in 8080 6380; do busybox nc -w 1 127.0.0.1 $port < /dev/null || exit; done", timeout=20)
    return json.loads(host.check(f"busybox wget -q -O - http://127.0.0.1:8080{path}"))


def mapped(host: Host, uuid: str, app: str) -> list[str]:
    """What the app's main process has mapped to be executed."""
    pid = host.check(["systemctl", "show", "--value", "-p", "MainPID", f"{app}-rkt-{uuid}.service"]).strip()
    lines = [line.split(None, 5) for line in host.check(f"cat /proc/{pid}/maps").splitlines()]
    return sorted({fields[5] for fields in lines if "x" in fields[1] and len(fields) > 5 and fields[5].startswith("/")})


def assert_from_the_image(files: object, *, program: str) -> None:
    assert isinstance(files, list)
    assert any(file.endswith("/libc.so.6") for file in files)
    assert any(file.endswith(program) for file in files)
    assert not [file for file in files if not file.startswith("/run/skim/")]


@pytest.fixture(scope="class")
def pod(host: Host) -> Iterator[str]:
    with running(host) as uuid:
        yield uuid


class TestTwoApps:
    def test_a_request_counts_in_redis(self, host: Host, pod: str) -> None:
        first = ask(host, "/")
        assert isinstance(first, int)
        assert ask(host, "/") == first + 1

    def test_no_library_of_the_host_is_mapped(self, host: Host, pod: str) -> None:
        redis, web = mapped(host, pod, "redis"), mapped(host, pod, "web")
        assert_from_the_image(redis, program="/usr/bin/redis-check-rdb")
        assert_from_the_image(web, program="/usr/bin/python3.13")
        assert any("_ssl" in file for file in web)
        assert any(file.endswith("/libssl.so.3") for file in web)

    def test_what_the_app_starts_runs_with_the_images_libraries(self, host: Host, pod: str) -> None:
        said = ask(host, "/children")
        assert isinstance(said, dict)
        assert "redis-cli 8" in said["redis-cli"]
        assert said["by a link"].strip('"').isdigit()
        assert_from_the_image(said["by env"], program="/usr/bin/python3.13")
        assert_from_the_image(said["by its own path"], program="/usr/bin/python3.13")
        assert said["conversion"]

    def test_the_hosts_shell_stays_the_hosts_and_finds_the_images_programs(self, host: Host, pod: str) -> None:
        said = ask(host, "/children")
        assert isinstance(said, dict)
        assert said["by the host's shell"].splitlines() == [said["redis-cli"], "(3, 13)"]
        assert said["by the image's shell"].splitlines()[0].startswith(f"/run/skim/{pod}/web/usr/bin/dash")
        assert said["host"] == host.check("cat /etc/hostname").strip()

    def test_scripts_take_the_interpreter_of_the_image(self, host: Host, pod: str) -> None:
        said = ask(host, "/children")
        assert isinstance(said, dict)
        prefix, *files = json.loads(said["a script"])
        assert_from_the_image(files, program="/usr/bin/python3.13")
        assert prefix.startswith("/run/skim/i/")
        assert said["a shell script"].startswith("/run/skim/i/")

    def test_enter_finds_the_images_programs(self, host: Host, pod: str) -> None:
        done = host.run(f"{RKT} enter --app=web {pod} python3 -c 'import sys, redis; print(sys.prefix)'")
        assert (done.status, done.stdout.strip()) == (0, f"/run/skim/{pod}/web/usr")
        assert host.run(f"{RKT} enter --app=web {pod} ask-redis ping").stdout.strip() == "PONG"

    def test_the_rendered_image_is_as_it_was(self, host: Host, pod: str) -> None:
        found = host.check(f"grep -l /run/skim/i/ {TREES}/*/rootfs/usr/bin/* {TREES}/*/rootfs/srv/* || true")
        assert found == ""
        assert host.check(f"cat {TREES}/*/rootfs/srv/child.py | head -1") == "#!/usr/bin/python3 -I\n"

    def test_a_second_pod_shares_what_was_made(self, host: Host, pod: str) -> None:
        layers = host.check(f"ls -i {LAYERS}")
        with running(host, apps="/tmp/redis.aci --name=other -- --port 6381") as uuid:
            assert (
                mapped(host, uuid, "other")[1:]
                == [file.replace(pod, uuid).replace("/redis/", "/other/") for file in mapped(host, pod, "redis")][1:]
            )
            assert host.check(f"ls -i {LAYERS}") == layers
            assert len(host.check("ls /run/skim/i").split()) == 2
        assert len(host.check("ls /run/skim/i").split()) == 2
        assert ask(host, "/libraries")


def test_what_was_made_goes_with_the_last_pod_and_the_image(host: Host) -> None:
    with running(host):
        views = host.check("ls /run/skim/i").split()
        assert len(views) == 2
    assert host.check("ls /run/skim/i /run/skim/c").split() == ["/run/skim/c:", "/run/skim/i:"]
    assert host.run("grep /run/skim/ /proc/self/mountinfo").stdout == ""
    assert sorted(host.check(f"ls {LAYERS}").split()) == sorted(views)
    with running(host, apps="/tmp/redis.aci"):
        host.check(f"{RKT} image rm example.com/web; {RKT} image gc --grace-period=0s")
    kept = host.check(f"ls {LAYERS}").split()
    host.check(f"{RKT} fetch /tmp/web.aci", timeout=120)
    assert len(kept) == 1


def test_without_overlay(host: Host) -> None:
    with running(host, flags="--no-overlay") as uuid:
        assert isinstance(ask(host, "/"), int)
        assert_from_the_image(mapped(host, uuid, "redis"), program="/usr/bin/redis-check-rdb")
        assert_from_the_image(ask(host, "/libraries"), program="/usr/bin/python3.13")
        said = ask(host, "/children")
        assert isinstance(said, dict)
        assert_from_the_image(json.loads(said["a script"])[1:], program="/usr/bin/python3.13")
    assert host.run("grep /run/skim/ /proc/self/mountinfo").stdout == ""


def test_killed_while_it_relocates(host: Host) -> None:
    """The next start finishes what the first began."""
    for tenths in range(1, 8):
        host.check(f"{RKT} gc --grace-period=0s; rm -rf {LAYERS}")
        host.run(f"timeout -s KILL 0.{tenths} {RKT} run --stage1-path=/opt/skim/images/stage1-skim.aci /tmp/redis.aci /tmp/web.aci")
    with running(host):
        assert isinstance(ask(host, "/"), int)
    host.check(f"{RKT} gc --grace-period=0s")
    assert not [name for name in host.check(f"ls {LAYERS}").split() if name.endswith(".new")]
    assert host.run("grep /run/skim/ /proc/self/mountinfo").stdout == ""
