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


class Page:
    """Collects what the tests below `folder` did."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self.target = target
        self.versions: dict[str, str] = {}
        self._rows: dict[Row, dict[str, str]] = {}
        self._of_item: dict[str, tuple[Row, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if self.folder not in item.path.parents or not isinstance(item, pytest.Function):
                continue
            callspec = getattr(item, "callspec", None)
            side = callspec.params.get("side", "ours") if callspec else "ours"
            row = Row(title=_title(item), test=item.nodeid.replace(f"[{side}-", "[").replace(f"-{side}]", "]").replace(f"[{side}]", ""))
            only = item.get_closest_marker("only_ours")
            cells = self._rows.setdefault(row, {"stock": f"– {only.kwargs['why']}" if only else "–", "ours": "–"})
            cells[side] = "not run"
            self._of_item[item.nodeid] = (row, side)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self._of_item:
            return
        row, side = self._of_item[report.nodeid]
        result = _result(report)
        if result:
            self._rows[row][side] = result

    def pytest_sessionfinish(self) -> None:
        rows = {row: cells for row, cells in self._rows.items() if "not run" not in cells.values()}
        if len(rows) == len(self._rows) and rows:  # a page of half a run would say less than the one that is there
            self.target.write_text(self.text())

    def text(self) -> str:
        known = {side: f" {self.versions[side]}" if side in self.versions else "" for side in SIDES}
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
