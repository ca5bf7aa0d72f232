"""Who calls the client: sudo, cron, services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hosts.host import Host
from stock.people import MEMBER, OTHER, add_people

RUN = "docker run --rm busybox /bin/busybox echo"


@pytest.fixture
def people(docker: Host) -> Host:
    add_people(docker)
    return docker


def test_through_sudo_by_somebody_who_may_not_use_docker(people: Host) -> None:
    assert people.run("docker ps", user=OTHER).status == 1
    assert people.check(f"sudo -n {RUN} as root", user=OTHER) == "as root\n"


def test_through_sudo_as_another_user(people: Host) -> None:
    assert people.check(f"sudo -n -u {MEMBER} {RUN} as member") == "as member\n"


def test_from_a_login_shell_of_a_member(people: Host) -> None:
    assert people.check(f"su - {MEMBER} -c '{RUN} logged in'") == "logged in\n"


@pytest.fixture
def cron(docker: Host) -> Iterator[Host]:
    """cron runs jobs for @reboot when it starts and believes that the host has booted."""
    docker.check("cp /etc/crontab /tmp/crontab.before; rm -f /tmp/cron-*")
    yield docker
    docker.check("mv /tmp/crontab.before /etc/crontab; rm -f /etc/cron.d/test")


def start_cron(host: Host) -> None:
    host.check("systemctl stop cron; rm -f /run/crond.reboot; systemctl start cron")


def test_from_the_hosts_crontab(cron: Host) -> None:
    cron.check(f"echo '@reboot root {RUN} from crontab > /tmp/cron-out 2>&1; echo $? > /tmp/cron-status' >> /etc/crontab")
    start_cron(cron)
    cron.wait_until("[ -s /tmp/cron-status ]")
    assert cron.check("cat /tmp/cron-out /tmp/cron-status") == "from crontab\n0\n"


def test_from_a_crontab_without_a_path(cron: Host) -> None:
    cron.write("/etc/cron.d/test", f"@reboot root {RUN} from cron.d > /tmp/cron-out 2>&1; echo $? > /tmp/cron-status\n")
    start_cron(cron)
    cron.wait_until("[ -s /tmp/cron-status ]")
    assert cron.check("cat /tmp/cron-out /tmp/cron-status") == "from cron.d\n0\n"


SERVICE = """\
[Service]
Type={type}
ExecStart=/bin/sh -c '{command}'
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
NoNewPrivileges=yes
"""


@pytest.fixture
def strict(docker: Host) -> Iterator[Host]:
    yield docker
    docker.check("systemctl stop strict.service; rm -rf /etc/systemd/system/strict.service /run/strict; systemctl daemon-reload")


def test_from_a_service_with_protect_system_strict(strict: Host) -> None:
    strict.write("/etc/systemd/system/strict.service", SERVICE.format(type="oneshot", command=f"{RUN} from a strict service"))
    strict.check("systemctl daemon-reload && systemctl start strict.service && journalctl --sync")
    assert "from a strict service" in strict.check("journalctl -u strict.service -o cat")


def test_from_such_a_service_that_was_there_before_docker_was_restarted(strict: Host) -> None:
    """It has a mount namespace of its own, in which the new engine must turn up."""
    command = "docker version || exit 1; until [ -e /run/strict/go ]; do sleep 0.1; done; docker version && echo worked twice"
    strict.write("/etc/systemd/system/strict.service", SERVICE.format(type="exec", command=command))
    strict.check("mkdir -p /run/strict; systemctl daemon-reload && systemctl start strict.service")
    strict.wait_until("journalctl --sync; journalctl -u strict.service -o cat | grep -A99 Server: | grep -q Version:")
    strict.check("systemctl restart docker.service && touch /run/strict/go")
    strict.wait_until("! systemctl is-active strict.service")
    strict.check("journalctl --sync")
    assert "worked twice" in strict.check("journalctl -u strict.service -o cat")


def test_by_its_bare_name_from_a_service(strict: Host) -> None:
    strict.write("/etc/systemd/system/strict.service", f"[Service]\nType=oneshot\nExecStart={RUN} by its name\n")
    strict.check("systemctl daemon-reload && systemctl start strict.service && journalctl --sync")
    assert "by its name" in strict.check("journalctl -u strict.service -o cat")
