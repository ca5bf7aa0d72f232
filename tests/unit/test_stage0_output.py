"""Tables, times, quoting and error chains as Go prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc.errors import UserError
from stage0.output import Failure, quote, with_causes
from stage0.tables import align
from stage0.times import SECOND, format_duration, long_time, parse_boolean, parse_duration, short_time

HOUR = 3600 * SECOND


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert align("UUID\tAPP\tX\n12345678\ta\ty\n") == "UUID\t\tAPP\tX\n12345678\ta\ty\n"
    assert align("1234567\tx\n") == "1234567\tx\n"
    assert align("a\t\tc\nb\tlonger12\td\n") == "a\t\t\tc\nb\tlonger12\td\n"


def test_a_column_ends_where_a_line_has_no_such_cell() -> None:
    assert align("a\tb\nno cells here\nlonger text\tc\n") == "a\tb\nno cells here\nlonger text\tc\n"


@given(st.lists(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), min_size=3, max_size=3), min_size=1))
def test_alignment_keeps_cells_and_lines_them_up(rows: list[list[str]]) -> None:
    lines = align("".join("\t".join(row) + "\n" for row in rows)).split("\n")[:-1]
    starts = set()
    for row, line in zip(rows, lines, strict=True):
        first = line[: len(line) - len(row[2])] if row[2] else line
        assert line.startswith(row[0])
        assert line.endswith(row[2])
        starts.add(len(first.expandtabs(8)))
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (119, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7199, "1 hour ago"),
        (86399, "23 hours ago"),
        (172799, "1 day ago"),
        (604799, "6 days ago"),
        (604800, "1 week ago"),
        (29 * 86400, "4 weeks ago"),
        (30 * 86400, "1 month ago"),
        (359 * 86400, "11 months ago"),
        (360 * 86400, "1 year ago"),
        (600 * 86400, "2 years ago"),
        (721 * 86400, "2 years ago"),
        (36 * 360 * 86400, "36 years ago"),
        (-5, "5 seconds from now"),
    ],
)
def test_short_times(seconds: int, text: str) -> None:
    now = 1_700_000_000
    assert short_time((now - seconds) * SECOND, now) == text


def test_no_time() -> None:
    assert short_time(None) == "a long while ago"
    assert long_time(None) == "0001-01-01 00:00:00 +0000 UTC"


@pytest.mark.parametrize(("below", "text"), [(0, ""), (860_000_000, ".86"), (1_999_999, ".001"), (999_999, ""), (100_000_000, ".1")])
def test_long_times(below: int, text: str) -> None:
    assert long_time(1_500_000_000 * SECOND + below) == f"2017-07-14 02:40:00{text} +0000 UTC"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("30m", HOUR // 2),
        ("1h30m0.5s", HOUR + HOUR // 2 + SECOND // 2),
        ("-1.5s", -3 * SECOND // 2),
        ("100ms", 10**8),
        (".5h", HOUR // 2),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("", 'time: invalid duration ""'),
        ("x", 'time: invalid duration "x"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_wrong_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (30 * 60 * SECOND, "30m0s"),
        (24 * HOUR, "24h0m0s"),
        (3 * SECOND // 2, "1.5s"),
        (10**8, "100ms"),
        (1500, "1.5µs"),
        (-HOUR, "-1h0m0s"),
    ],
)
def test_durations_as_text(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_durations_come_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


def test_booleans() -> None:
    assert [parse_boolean(text) for text in ("1", "t", "TRUE", "true", "0", "f", "False")] == [True] * 4 + [False] * 3
    with pytest.raises(ValueError, match='parsing "yes": invalid syntax'):
        parse_boolean("yes")


def test_quoting() -> None:
    assert quote('a"b\\c\n\x00é\x7f\u200b\udcff') == '"a\\"b\\\\c\\n\\x00é\\x7f\\u200b\\xff"'


def test_causes() -> None:
    inner = FileNotFoundError(2, "No such file or directory", "/x")
    middle = Failure("error reading")
    middle.__cause__ = inner
    assert with_causes("cannot", middle, debug=False) == "cannot: open /x: no such file or directory"
    assert with_causes("cannot", middle, debug=True) == "cannot\n  └─error reading\n    └─open /x: no such file or directory"
    assert with_causes("", UserError("why", hint="do so"), debug=False) == "why (do so)"
    assert with_causes("plain", None, debug=True) == "plain"
