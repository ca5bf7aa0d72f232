"""Times and durations in Go's forms: long and short times of `list` and `status`, durations of flags (contract section 7.1)."""

from __future__ import annotations

import time

SECOND = 10**9

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WEEK, _MONTH, _YEAR = 7 * _DAY, 30 * _DAY, 360 * _DAY
# (below this many seconds, text, seconds to the unit that is counted)
_SHORT = (
    (1, "now", 1),
    (2, "1 second {}", 1),
    (_MINUTE, "{n} seconds {}", 1),
    (2 * _MINUTE, "1 minute {}", 1),
    (_HOUR, "{n} minutes {}", _MINUTE),
    (2 * _HOUR, "1 hour {}", 1),
    (_DAY, "{n} hours {}", _HOUR),
    (2 * _DAY, "1 day {}", 1),
    (_WEEK, "{n} days {}", _DAY),
    (2 * _WEEK, "1 week {}", 1),
    (_MONTH, "{n} weeks {}", _WEEK),
    (2 * _MONTH, "1 month {}", 1),
    (_YEAR, "{n} months {}", _MONTH),
    (540 * _DAY, "1 year {}", 1),
    (2 * _YEAR, "2 years {}", 1),
    (37 * _YEAR, "{n} years {}", _YEAR),
)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
# Go's zero time, which `list` shows for a pod that has no creation time yet: seconds before 1970.
_ZERO_TIME = -62135596800


def long_time(nanoseconds: int | None) -> str:
    """`2006-01-02 15:04:05.999 -0700 MST` in the local zone: up to three digits of a second, without zeros at the end.

    `nanoseconds` since the epoch; None is Go's zero time.
    """
    if nanoseconds is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    seconds, rest = divmod(nanoseconds, SECOND)
    fraction = f".{rest // 10**6:03d}".rstrip("0").rstrip(".")
    local = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + fraction + time.strftime(" %z %Z", local)


def short_time(nanoseconds: int | None, now: float | None = None) -> str:
    """How long ago: `now`, `1 second ago`, `3 weeks ago`, … `now` in seconds since the epoch, for tests."""
    current = time.time() if now is None else now
    then = _ZERO_TIME * SECOND if nanoseconds is None else nanoseconds
    difference = int(current) - then // SECOND
    word = "ago" if then <= current * SECOND else "from now"
    for limit, text, unit in _SHORT:
        if abs(difference) < limit:
            return text.format(word, n=abs(difference) // unit)
    return f"a long while {word}"


def parse_duration(text: str) -> int:
    """A duration such as `1h30m`, `-1.5s` or `0`, in nanoseconds. Raises ValueError with Go's message."""
    rest = text
    sign = -1 if rest.startswith("-") else 1
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        number, rest = _take(rest, "0123456789")
        fraction = ""
        if rest.startswith("."):
            fraction, rest = _take(rest[1:], "0123456789")
        if not number and not fraction:
            raise ValueError(f'time: invalid duration "{text}"')
        end = next((index for index, character in enumerate(rest) if character in ".0123456789"), len(rest))
        unit, rest = rest[:end], rest[end:]
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += int(number or "0") * _UNITS[unit] + (int(fraction) * _UNITS[unit] // 10 ** len(fraction) if fraction else 0)
    if total >= 2**63:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `30m0s`, `1.5s`, `100ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < SECOND:
        unit, size = next((unit, size) for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if rest >= size)
        return sign + _decimal(rest, size) + unit
    minutes, below = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(below, SECOND) + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def parse_boolean(text: str) -> bool:
    """A boolean as Go reads it. Raises ValueError with Go's message."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)


def _take(text: str, characters: str) -> tuple[str, str]:
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest
