"""`make uninstall` on a host itself, where it also stops Docker and takes back what `skim setup` did."""

from __future__ import annotations

import shutil
from pathlib import Path

import appliance
from hosts import cache
from hosts.nspawn import NspawnHost

PLACES = "/opt /etc /usr/local /usr/bin /usr/sbin /run/skim /run/systemd/system /var/lib/skim /var/lib/rkt"
OURS = f"find {PLACES} -name '*skim*' -o -name '*rkt*' -o -name 'docker*' 2>/dev/null"


def test_uninstall_leaves_nothing_on_the_host(progress: cache.Progress) -> None:
    def prepare(root: Path) -> None:
        appliance.install(root)
        shutil.copytree(appliance.ROOT / "host-units", root / "root/host-units")

    with NspawnHost(prepare=prepare, progress=progress) as host:
        host.boot()
        host.check("skim setup && systemctl start docker && docker version")
        assert "/etc/skim" in host.check(OURS + "; true")
        done = host.run("sh /root/host-units/install.sh uninstall")
        assert done.status == 0, done.stderr
        assert host.check(OURS + "; true") == ""
        assert "skim" not in host.check("cat /proc/self/mountinfo | cut -d' ' -f5")
        assert host.run("systemctl is-active docker.service docker.socket").stdout.split() == ["inactive", "inactive"]
        assert host.check("ls /var/lib/docker")


def test_the_commands_say_what_to_do_while_there_is_no_engine(progress: cache.Progress) -> None:
    def said(command: str) -> tuple[int, str]:
        done = host.run([command, "--version"])
        return done.status, done.stderr

    with NspawnHost(prepare=appliance.install, progress=progress) as host:
        host.boot()
        for undo in ("true", "skim remove"):
            host.check(undo)
            for command in ("docker", "containerd", "ctr", "runc"):
                line = f"{command}: no engine is set up here: run 'skim setup' as root, then 'systemctl start docker'\n"
                assert said(command) == (127, line)
            host.check("skim setup")
            assert said("docker") == (0, "")
        host.reboot()  # the engine is mounted before systemd-tmpfiles gets there
        assert said("docker") == (0, "")
        assert host.run("systemctl is-failed systemd-tmpfiles-setup.service").status != 0
        assert "skim" not in host.check("journalctl -b -u systemd-tmpfiles-setup.service -o cat")
