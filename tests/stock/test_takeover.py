"""Installing over a distribution's Docker, and taking it off again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker_behaviour import COUNTER, assert_counting
from hosts import cache
from hosts.host import Host
from stock.marks import only_ours
from takeovers import SOURCE, UNITS, difference, install, manifest, server, states, stock_host, uninstall

pytestmark = only_ours("installing is ours")
OLD, NEW = "20.10", "26.1"
SLEEP = "--stop-timeout 1 busybox /bin/busybox sleep 10000"
COUNTING = [
    "docker",
    "run",
    "-d",
    "--name",
    "counter",
    "--stop-timeout",
    "1",
    "-v",
    "/tmp/count:/count",
    "busybox",
    "/bin/sh",
    "-c",
    COUNTER,
]
IDENTITY = "docker inspect -f '{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' counter"


@pytest.fixture(scope="module")
def machine(progress: cache.Progress) -> Iterator[Host]:
    with stock_host(progress) as host:
        yield host


@pytest.fixture
def stock(machine: Host) -> Host:
    """Debian's Docker runs, and nothing of ours is there."""
    if machine.run("test -e /opt/skim").status == 0:
        uninstall(machine)
    machine.check("rm -rf /etc/docker/daemon.json /etc/default/docker.d /etc/systemd/system/docker.service.d")
    machine.check(f"systemctl daemon-reload; systemctl enable -q {' '.join(UNITS)}; systemctl start {' '.join(UNITS)}")
    machine.check("docker ps -aq | xargs -r docker rm -f; docker volume prune -f; docker network prune -f")
    assert server(machine).startswith(OLD)
    return machine


def test_everything_is_said_and_taken_over_and_given_back(stock: Host) -> None:
    stock.check("docker run --name done -v kept:/data busybox /bin/sh -c 'echo old > /data/file'")
    stock.check(f"docker run -d --name web --restart=always {SLEEP} && docker run -d --name plain {SLEEP} && docker tag busybox old")
    before, enabled = manifest(stock), states(stock)

    said = install(stock).stdout
    plan = said.partition("[1/5]")[0]
    assert f"Docker {OLD}.24+dfsg1 is here (/usr/sbin/dockerd of the package docker.io {OLD}" in plan
    assert "3 container(s), 2 of them running, and 1 image(s): overlay2, /var/lib/docker" in plan
    assert "by restart policy: 1 container(s): web" in plan
    assert "having no restart policy: 1 container(s): plain" in plan
    assert said.index("images into the store") < said.index("of the host stop now: docker.service, docker.socket, containerd.service")
    assert server(stock).startswith(NEW)
    assert states(stock) == ["enabled", "enabled", "disabled", "active", "active", "inactive"]
    assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]
    stock.check("docker start plain && docker exec plain /bin/busybox true")
    assert stock.check("docker run --rm -v kept:/data old /bin/busybox cat /data/file") == "old\n"
    assert stock.check("docker start -a done && docker logs done") == ""

    stock.check("docker run --name new -v made:/data busybox /bin/sh -c 'echo new > /data/file; echo said' && docker tag busybox new")
    stock.check("docker network create between && docker commit done committed")
    stock.check("mkdir -p /tmp/build && printf 'FROM old\\nRUN echo >/made\\n' > /tmp/build/Dockerfile && docker build -t built /tmp/build")
    said = uninstall(stock).stdout
    assert "docker is running: the host's own" in said
    assert server(stock).startswith(OLD)
    assert states(stock) == enabled
    assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]
    for volume, content in (("kept", "old\n"), ("made", "new\n")):
        assert stock.check(f"docker run --rm -v {volume}:/data new /bin/busybox cat /data/file") == content
    assert stock.check("docker start -a new && docker logs new") == "said\nsaid\nsaid\n"
    stock.check("docker start plain && docker run --rm --network between committed /bin/busybox true")
    stock.check("docker run --rm built /bin/busybox test -e /made && DOCKER_BUILDKIT=1 docker build /tmp/build", timeout=180)
    stock.check("rm -rf /root/.docker")  # what the builder keeps for its user
    assert difference(before, manifest(stock)) == []


def test_with_live_restore_containers_run_through_it_both_ways(stock: Host) -> None:
    stock.write("/etc/docker/daemon.json", '{"live-restore": true}')
    stock.check("systemctl reload docker && until docker info -f '{{.LiveRestoreEnabled}}' | grep -q true; do sleep 0.1; done")
    stock.check("rm -rf /tmp/count; mkdir -p /tmp/count")
    stock.check(COUNTING)
    stock.wait_until("[ -s /tmp/count/n ]", timeout=10)
    identity = stock.check(IDENTITY)
    assert "goes on: 1 container(s): counter (live-restore is on)" in install(stock).stdout
    assert server(stock).startswith(NEW)
    assert stock.check(IDENTITY) == identity
    assert_counting(stock)
    assert stock.check("docker exec counter /bin/busybox echo in") == "in\n"
    stock.check("docker run -d --name born-later " + SLEEP)
    uninstall(stock)
    assert server(stock).startswith(OLD)
    assert stock.check(IDENTITY) == identity
    assert_counting(stock)
    for name in ("counter", "born-later"):
        assert stock.check(f"docker exec {name} /bin/busybox echo in") == "in\n"
        stock.check(f"docker stop -t 1 {name} && docker start {name} && docker rm -f {name}")


OVERRIDE = "/etc/systemd/system/docker.service.d/override.conf"


def test_a_drop_in_that_names_the_distributions_dockerd_is_refused_before_anything_changes(stock: Host) -> None:
    before = states(stock)
    stock.write(OVERRIDE, "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --label=of=dropin\n")
    stock.check("systemctl daemon-reload && systemctl restart docker")
    done = stock.run(f"cd {SOURCE} && sh host-units/install.sh install")
    assert done.status == 254
    assert f"{OVERRIDE} starts /usr/sbin/dockerd, not the engine: write `ExecStart=dockerd" in done.stderr
    assert states(stock) == before
    stock.check(f"sed -i 's|=/usr/sbin/dockerd|=dockerd|' {OVERRIDE} && systemctl daemon-reload && systemctl restart docker")
    assert server(stock).startswith(OLD)  # what is recommended serves both
    stock.check("skim setup")
    assert stock.check("docker info -f '{{.ServerVersion}} {{.Labels}}'").startswith(NEW)
    assert "of=dropin" in stock.check("docker info -f '{{.Labels}}'")
    stock.check("skim remove")
    assert stock.check("docker info -f '{{.ServerVersion}} {{.Labels}}'").startswith(OLD)
    assert stock.check("readlink /proc/$(systemctl show --value -p MainPID docker)/exe") == "/usr/sbin/dockerd\n"
    assert states(stock) == before


def test_files_alone_change_nothing_and_an_engine_that_cannot_be_unpacked_neither(stock: Host) -> None:
    stock.check(f"docker run -d --name web --restart=always {SLEEP}")
    identity = stock.check(IDENTITY.replace("counter", "web"))
    stock.check(f"cd {SOURCE}/build && cp docker.aci whole.aci && truncate -s 1M docker.aci")
    try:
        done = stock.run(f"cd {SOURCE} && sh host-units/install.sh install")
    finally:
        stock.check(f"cd {SOURCE}/build && mv whole.aci docker.aci")
    assert done.status != 0
    assert done.stderr.count("\n") == 1
    assert "truncated" in done.stderr
    assert stock.check(IDENTITY.replace("counter", "web")) == identity
    stock.check("systemctl daemon-reload && systemctl restart docker")
    assert server(stock).startswith(OLD)
    assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]


def test_an_engine_that_does_not_start_leaves_the_docker_that_was_there(stock: Host) -> None:
    before = states(stock)
    stock.check(f"docker run -d --name web --restart=always {SLEEP}")
    # An option of 20.10 that newer engines do not have.
    stock.check("cp -a /etc/default/docker /root/default-docker && echo 'DOCKER_OPTS=--graph=/var/lib/docker' >> /etc/default/docker")
    try:
        stock.check("systemctl restart docker")
        done = stock.run(f"cd {SOURCE} && sh host-units/install.sh install")
        assert done.status == 254
        assert done.stderr.count("\n") == 1
        assert "docker does not start with the engine: " in done.stderr
        assert "unknown flag: --graph" in done.stderr
        assert "runs as before" in done.stderr
        assert server(stock).startswith(OLD)
        assert states(stock) == before
        assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]
        assert stock.run("skim status").status == 1
    finally:
        stock.check("mv /root/default-docker /etc/default/docker && systemctl restart docker")
    assert stock.run("ls /etc/systemd/system.attached").stdout == ""


KILL = """\
mkdir -p /root/kill && cat > /root/kill/systemctl <<'END'
#!/bin/sh
case "$*" in
"$AT"*) [ "$WHEN" != before ] || kill -9 "$PPID"; /bin/systemctl "$@"; status=$?; [ "$WHEN" != after ] || kill -9 "$PPID"; exit $status ;;
esac
exec /bin/systemctl "$@"
END
chmod +x /root/kill/systemctl
"""


def test_a_setup_that_is_killed_is_repaired_by_the_next_or_undone(stock: Host) -> None:
    before = states(stock)
    stock.check(f"docker run -d --name web --restart=always {SLEEP}")
    stock.check(KILL)
    steps = [("after", "stop docker.service"), ("after", "start docker.service"), ("before", "enable docker.socket")]
    stock.run(f"cd {SOURCE} && AT=daemon-reload WHEN=before PATH=/root/kill:$PATH sh host-units/install.sh install")
    for when, at in steps:
        killed = stock.run("skim setup", environment={"AT": at, "WHEN": when, "PATH": "/root/kill:/usr/local/bin:/usr/sbin:/usr/bin"})
        assert killed.status in (-9, 137), killed.stdout + killed.stderr
        if (when, at) != steps[-1]:
            stock.check("skim remove")
            assert states(stock) == before
            assert server(stock).startswith(OLD)
            assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]
    stock.check("skim setup")
    assert server(stock).startswith(NEW)
    assert stock.check("docker ps --format '{{.Names}}'").split() == ["web"]
    assert stock.run("test -e /var/lib/skim/unfinished").status == 1


@pytest.fixture
def installed(machine: Host) -> Host:
    """Ours in the place of Debian's, up, with a container."""
    if machine.run("test -e /var/lib/skim/engine.env").status != 0:
        install(machine)
    machine.check("systemctl enable docker.service docker.socket && systemctl start docker")
    machine.check(f"docker ps -aq | xargs -r docker rm -f; docker run -d --name counter --restart=always {SLEEP}")
    assert server(machine).startswith(NEW)
    return machine


def test_a_second_install_is_an_upgrade_in_place(installed: Host) -> None:
    table = f"{SOURCE}/host-units/files.table"
    installed.check(f"cp {table} /root/files.table && echo 'text host-units/docker.socket /etc/skim/gone.conf 0644' >> /root/files.table")
    installed.check(f"cd {SOURCE} && TABLE=/root/files.table sh host-units/install.sh install && test -e /etc/skim/gone.conf")
    installed.check("systemctl disable docker.socket && echo '# mine' >> /etc/skim/docker.conf")
    pod, identity = installed.check("cat /var/lib/skim/pod-uuid"), installed.check(IDENTITY)
    installed.check(f"echo '# newer' >> {SOURCE}/host-units/docker.service")
    assert "docker is running with it" in install(installed).stdout
    assert installed.run("grep gone.conf /opt/skim/share/skim/installed; ls /etc/skim/gone.conf").stdout == ""
    assert "# mine" in installed.check("cat /etc/skim/docker.conf")
    assert "# newer" in installed.check("systemctl cat docker")
    assert (installed.check("cat /var/lib/skim/pod-uuid"), installed.check(IDENTITY)) == (pod, identity)
    assert states(installed) == ["enabled", "disabled", "disabled", "active", "active", "inactive"]
    installed.check("sed -i '/# mine/d' /etc/skim/docker.conf")


OLDER_LAYOUT = """\
cd /etc/systemd/system.attached
for unit in docker.service docker.socket; do
    mv $unit /etc/systemd/system/$unit && echo "ours /etc/systemd/system/$unit" >> /opt/skim/share/skim/installed
done
systemctl daemon-reload && systemctl reenable docker.service docker.socket
"""


def test_an_older_release_with_its_units_elsewhere_is_upgraded_too(installed: Host) -> None:
    installed.check(OLDER_LAYOUT)
    assert "/etc/systemd/system/docker.service" in installed.check("systemctl show -p FragmentPath docker")
    identity = installed.check(IDENTITY)
    install(installed)
    assert "/etc/systemd/system.attached/docker.service" in installed.check("systemctl show -p FragmentPath docker")
    assert installed.run("ls /etc/systemd/system/docker.service /etc/systemd/system/docker.socket").stdout == ""
    assert installed.check(IDENTITY) == identity
    assert states(installed)[:2] == ["enabled", "enabled"]
    installed.check("systemctl restart docker && docker exec counter /bin/busybox true")


def test_the_distributions_package_is_reinstalled_removed_and_purged_meanwhile(installed: Host, packages: list[Path]) -> None:
    for package in packages:
        installed.push(package, f"/root/debs/{package.name}")
    identity = installed.check(IDENTITY)
    installed.check("dpkg -i /root/debs/*.deb", timeout=300)
    assert installed.check(IDENTITY) == identity
    assert states(installed) == ["enabled", "enabled", "disabled", "active", "active", "inactive"]
    installed.check("dpkg -r docker.io containerd", timeout=300)
    installed.check("systemctl start docker && docker exec counter /bin/busybox true")
    assert server(installed).startswith(NEW)
    installed.check("rm -f /var/lib/docker/nuke-graph-directory.sh && dpkg -P docker.io containerd", timeout=300)
    assert installed.check("systemctl is-enabled docker.service") == "enabled\n"
    installed.reboot()
    assert server(installed).startswith(NEW)
    assert installed.check("docker ps --format '{{.Names}}'").split() == ["counter"]
    uninstall(installed)
    assert installed.run("systemctl cat docker.service containerd.service").status != 0
    assert installed.check("find /etc/systemd -name 'docker*' -o -name 'containerd*'") == ""


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """Debian 12's own, as they are on the host."""
    folder = cache.directory() / "docker-of-debian12"
    with cache.locked(folder.with_suffix(".lock")):
        if not folder.exists():
            building = folder.with_suffix(".building")
            building.mkdir(exist_ok=True)
            command = ["apt-get", "download", "docker.io", "containerd"]
            done = subprocess.run(command, cwd=building, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no packages: {done.stderr.strip()}")
            building.rename(folder)
    return sorted(folder.glob("*.deb"))
