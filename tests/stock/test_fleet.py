"""How a fleet gets the appliance.

Each file of docs/fleet is used as it is there, but for the URL and the sha256 of the tarball, on hosts that lack what it does not promise
to need. `make tarball` is what makes the tarball.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import textwrap
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from hosts import cache, image
from hosts.host import Host
from hosts.nspawn import NspawnHost
from stock.marks import only_ours

ROOT = Path(__file__).parents[2]
FLEET = ROOT / "docs/fleet"
URL = "https://fleet.example/skim-0.1.0-x86_64.tar.gz"
ZEROS = 64 * "0"
# What containerd makes wherever it starts.
OF_THE_DAEMONS = {"/etc/cni", "/etc/cni/net.d", "/opt/containerd", "/opt/containerd/bin", "/opt/containerd/lib"}
IGNITION = "/usr/lib/dracut/modules.d/30ignition/ignition"
# What a provider's image says: where user data is, and what this one has not got (locales, an ssh server).
OF_THE_IMAGE = "datasource_list: [NoCloud]\nnetwork: {config: disabled}\nlocale: false\nssh_genkeytypes: []\n"
pytestmark = only_ours("a distribution's Docker is a package")


class Tarball(NamedTuple):
    path: Path
    sha256: str


def make_tarball(folder: Path, *, dated: int) -> Tarball:
    path = folder / "skim-0.1.0-x86_64.tar.gz"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(dated)}
    subprocess.run(["sh", "setup/tarball.sh", path], cwd=ROOT, env=environment, check=True)
    with path.open("rb") as file:
        return Tarball(path, hashlib.file_digest(file, "sha256").hexdigest())


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Tarball:
    return make_tarball(tmp_path_factory.mktemp("tarball"), dated=1_700_000_000)


@pytest.fixture(scope="module")
def next_tarball(tmp_path_factory: pytest.TempPathFactory) -> Tarball:
    """Of another day: what is in it is the same."""
    return make_tarball(tmp_path_factory.mktemp("next"), dated=1_700_000_001)


def test_the_tarball_of_the_same_build_is_the_same(tarball: Tarball, tmp_path: Path) -> None:
    assert make_tarball(tmp_path, dated=1_700_000_000).sha256 == tarball.sha256
    subprocess.run(["sha256sum", "--check", "--quiet", f"{tarball.path.name}.sha256"], cwd=tarball.path.parent, check=True)
    with tarfile.open(tarball.path) as archive:
        members = archive.getmembers()
    assert {member.name.partition("/")[0] for member in members} == {"skim-0.1.0-x86_64"}
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 1_700_000_000)}
    assert not [member.name for member in members if member.mode & 0o022]


def served_by(host: Host, *tarballs: Tarball) -> list[str]:
    """URLs of the tarballs on a server of the host's own: it has no other network."""
    for number, tarball in enumerate(tarballs):
        host.push(tarball.path, f"/srv/{number}.tar.gz")
    host.check("systemd-run --unit=fleet-server /bin/busybox httpd -f -p 127.0.0.1:8000 -h /srv")
    return [f"http://127.0.0.1:8000/{number}.tar.gz" for number in range(len(tarballs))]


def assert_docker_runs(host: Host) -> None:
    assert host.check("systemctl is-active docker.service docker.socket") == "active\nactive\n"
    assert host.check("docker info -f '{{.LiveRestoreEnabled}}'") == "true\n"
    host.check("mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && tar -C /tmp/image -c . | docker import - busybox")
    assert host.check("docker run --rm busybox /bin/busybox echo from a container") == "from a container\n"


def docker_pod(host: Host) -> str:
    return host.check("cat /var/lib/skim/pod-uuid")


def host_of(flavour: str, progress: cache.Progress, prepare: Callable[[Path], None] | None = None) -> NspawnHost:
    return NspawnHost(image.FLAVOURS[flavour], prepare=prepare, progress=progress)


@pytest.fixture(scope="module")
def ssh_host(progress: cache.Progress) -> Iterator[NspawnHost]:
    """Without Python; root may log in by the cache's key."""

    def prepare(root: Path) -> None:
        keys = root / "root/.ssh"
        keys.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(image.ssh_key().with_suffix(".pub"), keys / "authorized_keys")

    with host_of("debian12-ssh", progress, prepare) as host:
        host.boot()
        assert host.run("command -v python3").status != 0
        yield host


class Played(NamedTuple):
    """What a run of the playbook did to its host."""

    status: int
    changed: int
    said: str


def play(host: NspawnHost, **variables: str) -> Played:
    """Run the playbook over ssh, in the host's network, where alone it is reached."""
    argv = ["nsenter", f"--net=/proc/{host.pid1()}/ns/net", "/usr/bin/ansible-playbook", "-i", "127.0.0.1,", "-u", "root", "-v"]
    argv += [f"--private-key={image.ssh_key()}", "skim.yml", *(f"-e{name}={value}" for name, value in variables.items())]
    environment = {
        **os.environ,
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_SSH_ARGS": "-F /dev/null -o UserKnownHostsFile=/dev/null -o ControlMaster=no",
        "ANSIBLE_LOCAL_TEMP": str(host.folder / "ansible"),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(argv, cwd=FLEET, env=environment, capture_output=True, text=True, timeout=300, check=False)
    recap = re.search(r"^127\.0\.0\.1 .*\bchanged=(\d+)", done.stdout, re.MULTILINE)
    assert recap, f"ansible-playbook, status {done.returncode}: {done.stdout}{done.stderr}"
    return Played(done.returncode, int(recap[1]), done.stdout)


@pytest.mark.skipif(shutil.which("ansible-playbook", path="/usr/bin") is None, reason="Debian's ansible-core is not installed")
def test_ansible_installs_changes_nothing_twice_upgrades_in_place_and_uninstalls(
    ssh_host: NspawnHost, tarball: Tarball, next_tarball: Tarball
) -> None:
    present, upgraded = served_by(ssh_host, tarball, next_tarball)
    before = files_of_the_host(ssh_host)

    refused = play(ssh_host, skim_tarball=present, skim_sha256=ZEROS)
    assert refused.status != 0
    assert f"{present} is not the file with the sha256 {ZEROS}: nothing was changed" in refused.said
    assert ssh_host.run("ls -d /opt/skim").status != 0

    first = play(ssh_host, skim_tarball=present, skim_sha256=tarball.sha256)
    assert first.status == 0, first.said
    assert first.changed > 0
    assert_docker_runs(ssh_host)

    pod = docker_pod(ssh_host)
    again = play(ssh_host, skim_tarball=present, skim_sha256=tarball.sha256)
    assert (again.status, again.changed) == (0, 0), again.said
    assert docker_pod(ssh_host) == pod

    ssh_host.check("docker run -d --name through busybox /bin/busybox sleep 100000")
    process = ssh_host.check("docker inspect -f '{{.State.Pid}}' through")
    upgrade = play(ssh_host, skim_tarball=upgraded, skim_sha256=next_tarball.sha256)
    assert upgrade.status == 0, upgrade.said
    assert "upgraded: the appliance of" in upgrade.said
    assert docker_pod(ssh_host) != pod
    assert ssh_host.check("docker inspect -f '{{.State.Pid}}' through") == process

    ssh_host.check("docker rm -f through")
    gone = play(ssh_host, skim_state="absent")
    assert gone.status == 0, gone.said
    assert ssh_host.run("command -v docker skim; ls -d /opt/skim").stdout == ""
    assert play(ssh_host, skim_state="absent").changed == 0
    assert files_of_the_host(ssh_host) - before - OF_THE_DAEMONS == {"/etc/docker", "/etc/docker/daemon.json"}
    assert before <= files_of_the_host(ssh_host)


def files_of_the_host(host: Host) -> set[str]:
    return set(host.check("find /etc /opt /usr -path '*/rkt' -prune -o ! -name '*-' -print").splitlines())


@pytest.fixture
def as_written(tarball: Tarball) -> Callable[[str, str], str]:
    """A file of the guide with the URL and the sha256 of a real tarball in the place of the examples."""

    def text(name: str, url: str) -> str:
        content = (FLEET / name).read_text()
        assert URL in content
        assert ZEROS in content
        return content.replace(URL, url).replace(ZEROS, tarball.sha256)

    return text


def test_cloud_init_installs_at_the_first_boot(tarball: Tarball, as_written: Callable[[str, str], str], progress: cache.Progress) -> None:
    def prepare(root: Path) -> None:
        seed = root / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        (seed / "meta-data").write_text("instance-id: first\n")
        (seed / "user-data").write_text(as_written("user-data", "http://127.0.0.1:8000/skim.tar.gz"))
        (root / "etc/cloud/cloud.cfg.d/99-test.cfg").write_text(OF_THE_IMAGE)
        shutil.copy(tarball.path, root / "srv/skim.tar.gz")
        unit = root / "etc/systemd/system/fleet-server.service"
        unit.write_text("[Service]\nExecStart=/bin/busybox httpd -f -p 127.0.0.1:8000 -h /srv\n[Install]\nWantedBy=sysinit.target\n")
        subprocess.run(["systemctl", f"--root={root}", "--quiet", "enable", unit.name], check=True)

    with host_of("debian12-cloud", progress, prepare) as host:
        host.boot(timeout=180)
        status = host.run("cloud-init status --wait --long")
        assert status.status == 0, host.run("tail -n 40 /var/log/cloud-init-output.log").stdout
        assert "status: done" in status.stdout
        assert "installed: the appliance of" in host.check("cat /var/log/cloud-init-output.log")
        assert "Valid" in host.check("cloud-init schema --config-file /var/lib/cloud/seed/nocloud/user-data")
        assert_docker_runs(host)
        pod = docker_pod(host)
        host.reboot()
        host.wait_until("docker info", timeout=60)
        assert docker_pod(host) != pod
        assert host.check("cat /var/log/cloud-init-output.log").count("the appliance of") == 1


@pytest.fixture
def tarball_url(tarball: Tarball) -> Iterator[str]:
    """On a port of loopback: Ignition fetches before there is a host."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tarball.path.parent))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{tarball.path.name}"
        server.shutdown()
        thread.join()


def ignite(root: Path, config: str, folder: Path) -> None:
    """Run Ignition's stages on a root as an initial RAM disk does.

    Debian's build relabels what it wrote for SELinux, whether the host has that or not: no contexts here, and a setfiles that does nothing.
    """
    (folder / "config.ign").write_text(config)
    (folder / "setfiles").symlink_to("/bin/true")
    contexts = root / "etc/selinux/none/contexts/files"
    contexts.mkdir(parents=True)
    (contexts / "file_contexts").write_text("")
    (root / "etc/selinux/config").write_text("SELINUX=disabled\nSELINUXTYPE=none\n")
    options = [f"-config-cache={folder}/cached", f"-state-file={folder}/state", f"-neednet={folder}/neednet", "-log-to-stdout"]
    for stage in ("fetch", "files"):
        argv = [IGNITION, "-platform=file", f"-root={root}", f"-stage={stage}", *options]
        environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.skipif(not os.path.exists(IGNITION), reason="Debian's ignition is not installed")
def test_ignition_installs_at_the_first_boot(
    tarball_url: str, as_written: Callable[[str, str], str], tmp_path: Path, progress: cache.Progress
) -> None:
    config = as_written("skim.ign", tarball_url)

    def prepare(root: Path) -> None:
        ignite(root, config, tmp_path)
        # What systemd does at a first boot by Ignition's presets; here for this unit alone, since Debian's own presets enable everything.
        subprocess.run(["systemctl", f"--root={root}", "--quiet", "preset", "skim-install.service"], check=True)

    with host_of("debian12", progress, prepare) as host:
        host.boot(timeout=180)
        assert host.check("systemctl is-active skim-install.service") == "active\n", host.check("journalctl -u skim-install")
        assert_docker_runs(host)
        host.reboot()
        host.wait_until("docker info", timeout=60)
        assert host.check("systemctl show -P ConditionResult skim-install.service") == "no\n"


@pytest.mark.skipif(not os.path.exists("/usr/bin/ignition-validate"), reason="Debian's ignition is not installed")
def test_the_ignition_config_is_valid_and_says_what_the_butane_config_says() -> None:
    subprocess.run(["ignition-validate", FLEET / "skim.ign"], check=True)
    butane = (FLEET / "skim.bu").read_text()
    config = json.loads((FLEET / "skim.ign").read_text())
    if shutil.which("butane"):
        done = subprocess.run(["butane", "--strict"], input=butane, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == config
    files, units = config["storage"]["files"], config["systemd"]["units"]
    assert [line.split()[-1] for line in butane.splitlines() if "- path: " in line] == [file["path"] for file in files]
    assert [line.split()[-1] for line in butane.splitlines() if "- name: " in line] == [unit["name"] for unit in units]
    assert f"        source: {files[0]['contents']['source']}\n" in butane
    assert f"          hash: {files[0]['contents']['verification']['hash']}\n" in butane
    for file in files[1:]:
        assert indented(inline(file["contents"]), 10) in butane
    for unit in units:
        assert "      enabled: true\n" in butane
        assert indented(unit["contents"], 8) in butane


def inline(contents: dict[str, str]) -> str:
    """What a data URL of an Ignition config holds (RFC 2397)."""
    head, _, data = contents["source"].removeprefix("data:").partition(",")
    content = base64.b64decode(data) if head.endswith(";base64") else urllib.parse.unquote_to_bytes(data)
    return (gzip.decompress(content) if contents.get("compression") == "gzip" else content).decode()


def indented(text: str, width: int) -> str:
    return textwrap.indent(text, width * " ")


@pytest.mark.parametrize(("name", "width"), [("user-data", 6), ("skim.bu", 10)])
def test_the_script_in_a_config_is_the_one_beside_it(name: str, width: int) -> None:
    assert indented((FLEET / "skim-install").read_text(), width) in (FLEET / name).read_text()
