"""docs/stock.md: every row of the comparison with a distribution's Docker, as a run found it; nothing in the page is by hand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

SIDES = ("stock", "ours")
_HEAD = """\
# The appliance beside a distribution's Docker

Written by `make test-stock`; a change here by hand is lost. Each row is a test that ran on both kinds of host, or says why it ran on one.
*Stock* is Debian's own docker.io and containerd{stock}, *ours* the appliance{ours}, on the same Debian 12.
A difference is one that is meant, with its reason; the test fails if the difference is no longer there.

"""


class Row(NamedTuple):
    """A test, whichever side it ran on: its module's title, and what it shows."""

    title: str
    test: str


PROPERTY = "stock row"
VERSION = "docker version"


class Page:
    """Collects what the tests did: rows arrive with the reports, so that they do from workers of xdist, too."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._versions: dict[str, str] = {}
        self._rows: dict[Row, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if PROPERTY not in properties:
            return
        found = properties[PROPERTY]
        assert isinstance(found, tuple | list)  # a worker's came as text
        title, test, side, why = map(str, found)
        cells = self._rows.setdefault(Row(title=title, test=test), {"stock": f"– {why}".rstrip(), "ours": "–"})
        if VERSION in properties:
            self._versions[side] = str(properties[VERSION])
        if result := _result(report):
            cells[side] = result

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._rows and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):  # a run that was cut short says less
            self.target.write_text(self.text())

    def text(self) -> str:
        known = {side: f" {self._versions[side]}" if side in self._versions else "" for side in SIDES}
        lines = [_HEAD.format(**known)]
        title = ""
        for row, cells in sorted(self._rows.items(), key=lambda item: item[0].test.partition("::")[0]):
            if row.title != title:
                title = row.title
                lines.append(f"\n## {title}\n\n| what | stock | ours | test |\n|---|---|---|---|\n")
            module, _, name = row.test.rpartition("::")
            where = f"`{Path(module.partition('::')[0]).stem}::{name}`"
            lines.append(f"| {_sentence(name)} | {cells['stock']} | {cells['ours']} | {where} |\n")
        return "".join(lines)


def properties_of(item: pytest.Function) -> tuple[str, str, str, str]:
    """What a report has to bring along: the module's title, the test without its side, the side, and why there is but one."""
    callspec = getattr(item, "callspec", None)
    side = str(callspec.params.get("side", "ours")) if callspec else "ours"
    test = item.nodeid.replace(f"[{side}-", "[").replace(f"-{side}]", "]").replace(f"[{side}]", "")
    only = item.get_closest_marker("only_ours")
    return _title(item), test, side, str(only.kwargs["why"]) if only else ""


def _title(item: pytest.Function) -> str:
    return str(item.module.__doc__ or item.module.__name__).strip().splitlines()[0].rstrip(".")


def _sentence(name: str) -> str:
    function, bracket, parameters = name.partition("[")
    text = function.removeprefix("test_").replace("_", " ")
    return f"{text} ({parameters.rstrip(']')})" if bracket else text


def _result(report: pytest.TestReport) -> str:
    """What stands in a cell; empty for a phase that says nothing."""
    reason = str(getattr(report, "wasxfail", "")).removeprefix("reason: ").replace("|", "\\|").replace("\n", " ")
    if reason and report.skipped:
        return f"differs: {reason}"
    if report.failed:
        return "**failed**"
    if report.skipped:
        return "skipped: " + (str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "").removeprefix("Skipped: ")
    return "yes" if report.when == "call" else ""
