"""Users and groups come from the image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appc.errors import UserError
from pod_directories import UUID, app_entry, app_root, app_section, image_manifest, make_pod
from stage1_skim.credentials import Credentials, app_credentials
from stage1_skim.pod import read_pod


def credentials(tmp_path: Path, app: dict[str, Any], image: dict[str, Any] | None = None, passwd: str = "", group: str = "") -> Credentials:
    pod = make_pod(tmp_path / "pod", app_entry("a", app), images={"a": image} if image else None)
    etc = app_root(pod, "a") / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(group)
    (app_root(pod, "a") / "owned").write_text("")
    return app_credentials(read_pod(str(pod), UUID).apps[0])


def test_names_of_the_image(tmp_path: Path) -> None:
    found = credentials(
        tmp_path,
        app_section("/x", user="web", group="www", supplementaryGIDs=[7, 8]),
        passwd="root:x:0:0::/root:/bin/sh\nweb:x:1234:99:Web:/srv/web:/bin/sh\n",
        group="www:x:4321:\n",
    )
    assert found == Credentials(uid=1234, gid=4321, groups=(7, 8), user="web", home="/srv/web")


def test_a_number_without_an_entry(tmp_path: Path) -> None:
    found = credentials(tmp_path, app_section("/x", user="12345", group="54321"))
    assert (found.uid, found.gid, found.user, found.home) == (12345, 54321, "12345", "/")


def test_root_needs_no_database(tmp_path: Path) -> None:
    found = credentials(tmp_path, app_section("/x", user="root", group="root"))
    assert found.is_root
    assert (found.user, found.home) == ("root", "/root")


def test_owner_of_a_path_in_the_image(tmp_path: Path) -> None:
    found = credentials(tmp_path, app_section("/x", user="/owned", group="/owned"))
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())


def test_docker_image_without_the_group_takes_the_user(tmp_path: Path) -> None:
    image = image_manifest("example.com/a", annotations={"appc.io/docker/repository": "library/a"})
    found = credentials(tmp_path, app_section("/x", user="33", group="nowhere"), image=image)
    assert (found.uid, found.gid) == (33, 33)


@pytest.mark.parametrize("number", ["²", "99999999999", "4294967295", "-1", "", "9" * 5000])
def test_a_row_of_the_database_without_a_usable_number_is_none(tmp_path: Path, number: str) -> None:
    with pytest.raises(UserError, match=r'app "a": user \'web\' is not in /etc/passwd of image'):
        credentials(tmp_path, app_section("/x", user="web"), passwd=f"web:x:{number}:99::/:/bin/sh\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", "daemon"),
        ("group", "daemon"),
        ("user", "/missing"),
        ("user", "99999999999"),
        ("user", "4294967295"),
        ("user", "²"),
        ("group", "9" * 5000),
    ],
)
def test_what_the_image_lacks_is_an_error_that_names_it(tmp_path: Path, field: str, value: str) -> None:
    assert "daemon" in Path("/etc/passwd").read_text()  # of the host: not asked
    with pytest.raises(UserError, match=rf'app "a": {field} \'{value}\''):
        credentials(tmp_path, app_section("/x", **{field: value}))
