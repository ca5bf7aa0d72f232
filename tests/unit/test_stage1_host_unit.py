"""What an app takes over from the unit of the host that it stands for."""

from __future__ import annotations

import pytest

from appc.errors import UserError
from stage1_skim.host_unit import HostUnit, UnitFile, check_name, drop_in_text, warnings


def unit(*texts: str) -> HostUnit:
    return HostUnit("docker.service", tuple(UnitFile(f"/etc/{number}.conf", text) for number, text in enumerate(texts)))


def taken(*texts: str) -> list[str]:
    return [line for line in drop_in_text(unit(*texts)).splitlines() if not line.startswith(("[", "LogExtraFields="))]


def test_what_is_said_of_the_process_is_taken_over_in_order() -> None:
    first = "[Service]\nLimitNOFILE=1024\nMemoryMax=1G\n"
    second = "[Service]\nLimitNOFILE=\nLimitNOFILE = 4096\nSystemCallFilter=~reboot \\\n  kexec_load\n"
    assert taken(first, second) == [
        "LimitNOFILE=1024",
        "MemoryMax=1G",
        "LimitNOFILE=",
        "LimitNOFILE=4096",
        "SystemCallFilter=~reboot    kexec_load",
    ]


def test_what_is_said_of_the_service_itself_is_not() -> None:
    assert taken(
        "[Unit]\nAfter=a.service\nStartLimitBurst=9\n[Service]\nType=simple\nExecStart=/bin/x\nExecStartPre=/bin/y\n"
        "Environment=A=b\nKillMode=none\n# MemoryMax=1\n[Install]\nWantedBy=x.target\n[X-Mine]\nMemoryMax=2\n"
    ) == ["StartLimitBurst=9"]


def test_its_lines_are_found_by_the_units_name() -> None:
    assert drop_in_text(unit()) == "[Service]\nLogExtraFields=OBJECT_SYSTEMD_UNIT=docker.service\n"


def test_what_cannot_be_taken_over_is_named_with_its_place() -> None:
    given = unit("[Service]\nSlice=big.slice\nUser=\n", "[Service]\nUser=web\n")
    assert warnings({"docker": given}) == [
        "Slice= in /etc/0.conf holds for docker.service itself, not for app docker",
        "User= in /etc/1.conf holds for docker.service itself, not for app docker",
    ]
    assert taken("[Service]\nSlice=big.slice\n") == []


@pytest.mark.parametrize("name", ["docker", "a/b.service", "a b.service", "docker.socket", "a\nb.service"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UserError, match="no name of a service"):
        check_name(name)
