"""Which mirror the test hosts are built from: the one that this machine's apt uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosts import sources

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64] https://tools.example/apt stable main
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://list.example/debian bookworm main non-free # why
"""


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKIM_DEBIAN_MIRROR", raising=False)


def test_deb822(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    assert sources.lines("bookworm", tmp_path) == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/security bookworm-security main",
    ]
    assert sources.lines("trixie", tmp_path) == ["deb http://mirror.example/debian trixie main"]


def test_one_line(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    assert sources.lines("bookworm", tmp_path) == ["deb http://list.example/debian bookworm main"]


def test_no_debian_archive(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb https://tools.example/apt stable main\n")
    with pytest.raises(sources.NoMirror, match="SKIM_DEBIAN_MIRROR"):
        sources.lines("bookworm", tmp_path)


def test_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIM_DEBIAN_MIRROR", "http://mine.example/debian")
    assert sources.lines("trixie", tmp_path) == ["deb http://mine.example/debian trixie main"]
