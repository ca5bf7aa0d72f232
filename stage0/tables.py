"""Tables as Go's text/tabwriter lays them out: minimum width 0, tab width 8, padding 1, padded with tabs (contract section 7.1)."""

from __future__ import annotations

_TAB = 8
_PADDING = 1


def align(text: str) -> str:
    """Align the tab-ended cells of `text`.

    A column is a run of lines that have a cell in it; its width is that of its widest cell and the padding, rounded up to whole tabs.
    What follows a line's last tab is in no column.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    _measure(lines, widths, 0, len(lines), 0)
    return "\n".join(_line(cells, columns) for cells, columns in zip(lines, widths, strict=True))


def _measure(lines: list[list[str]], widths: list[list[int]], first: int, end: int, column: int) -> None:
    """Find the widths of `column` and those right of it, for the lines first..end."""
    index = first
    while index < end:
        if column >= len(lines[index]) - 1:
            index += 1
            continue
        start = index
        widest = 0
        while index < end and column < len(lines[index]) - 1:
            widest = max(widest, len(lines[index][column]))
            index += 1
        width = -(-(widest + _PADDING) // _TAB) * _TAB
        for line in range(start, index):
            widths[line].append(width)
        _measure(lines, widths, start, index, column + 1)


def _line(cells: list[str], widths: list[int]) -> str:
    padded = [cell + "\t" * -(-(width - len(cell)) // _TAB) for cell, width in zip(cells, widths, strict=False)]
    return "".join(padded) + cells[-1]
