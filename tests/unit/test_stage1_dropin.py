"""What an image may say of its unit, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from appc.errors import UserError
from pod_directories import UUID, app_entry, app_section, image_manifest, make_pod
from stage1_skim.dropin import check, service_setting
from stage1_skim.pod import read_pod


def test_a_drop_in_passes_unchanged() -> None:
    text = "# why\n[Service]\nType=notify\nExecReload=/bin/kill -HUP \\\n  $MAINPID\n[Unit]\nAfter=time-sync.target\n"
    assert check(text, "image a") == text


def test_a_missing_line_end_is_added() -> None:
    assert check("[Service]\nDelegate=yes", "image a") == "[Service]\nDelegate=yes\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Service]\nExecStart=/bin/evil", r"image a, line 2 .*ExecStart= is set by the manifest"),
        ("[Service]\n User = nobody", r"line 2 .*User="),
        ("[Install]\nWantedBy=x", r"section \[Install\] is not one of"),
        ("Type=notify", r"Type= stands before any section"),
        ("[Service]\nnonsense", r"'nonsense' is neither a section nor a setting"),
        ("[Unit]\nAfter=a \\", r"the last line is to be continued"),
        ("[Service]\nDelegate=yes\n[Unit]\nBindsTo=x", r"line 4 .*BindsTo="),
        # None of these goes on after the backslash, so the next line is a setting of its own.
        ("[Service]\nEnvironment=A=x\\\\\nUser=nobody\n", r"line 3 .*User="),
        ("[Service]\nEnvironment=A=x\\ \nUser=nobody\n", r"line 3 .*User="),
        ("[Service]\n# a comment \\\nUser=nobody\n", r"line 3 .*User="),
        # And no line ends, no section begins here for systemd, though for Python they do.
        ("[Service]\n#\u2028[Unit]\nUser=nobody\n", r"line 3 .*User="),
        ("[Service]\n#\x0b[Unit]\nUser=nobody\n", r"line 2 .*'\\x0b' cannot be in a unit"),
        ("[Service]\n\u00a0[Unit]\nUser=nobody\n", r"line 2 .*is neither a section nor a setting"),
        ("[Service]\nEnvironment=A=x\rUser=nobody\n", r"line 2 .*'\\r' cannot be in a unit"),
        ("[Service]\nEnvironment=A=x\x00User=nobody\n", r"line 2 .*'\\x00' cannot be in a unit"),
        ("[Service]\nEnvironment=A=\ud800\n", r"line 2 .*'\\ud800' cannot be in a unit"),
        ("[Service]\nEnvironment=A=x\\\n# between \n  y\nUser=nobody\n", r"line 5 .*User="),
    ],
)
def test_what_cannot_be_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(text, "image a")


def test_a_continued_line_is_no_setting_of_its_own() -> None:
    check("[Service]\nExecReload=/bin/echo \\\nUser=is-an-argument\n", "image a")
    check("[Service]\nExecReload=/bin/echo \\\n# a comment between\n; another \\\nUser=is-an-argument\n", "image a")


@pytest.mark.parametrize(
    ("image", "entry", "value"),
    [
        (None, None, ""),
        ("[Service]\nRestart=always\n", None, "always"),
        ("[Service]\nRestart=always\n", "[Service]\n Restart = no \n", "no"),
        ("[Service]\nRestart=always\nRestart=\n", None, ""),
        ("[Unit]\nRestart=always\n", "[Service]\nRestartSec=1\n", ""),
        ("[Service]\nExecReload=/bin/echo \\\nRestart=always\n", None, ""),
    ],
)
def test_the_value_of_a_setting_is_the_last_one(tmp_path: Path, image: str | None, entry: str | None, value: str) -> None:
    manifest = image_manifest("example.com/a", annotations={"skim/unit": image} if image else {})
    app = app_entry("a", app_section("/x"), annotations={"skim/unit": entry} if entry else {})
    pod = read_pod(str(make_pod(tmp_path / "pod", app, images={"a": manifest})), UUID)
    assert service_setting(pod.apps[0], "Restart") == value
