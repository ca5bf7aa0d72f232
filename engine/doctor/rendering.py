"""Findings as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter

from engine.doctor.finding import ERROR, NOTE, OK, STATUSES, WARNING, Check, is_ok

TITLES = {
    "engine": "The engine",
    "units": "Units",
    "access": "Who may use it",
    "daemon-json": "daemon.json",
    "kernel": "The kernel",
    "cgroups": "Control groups",
    "storage": "Storage",
    "space": "Space",
    "pods": "Pods",
    "host": "The host",
}
_COLOURS = {OK: "32", NOTE: "36", WARNING: "33", ERROR: "1;31"}
_INDENT = " " * 11


def text(checks: list[Check], *, colour: bool) -> str:
    """One line for each check, below its group; what to do below each that is not ok; a summary at the end."""
    lines = []
    for group, title in TITLES.items():
        members = [check for check in checks if check.group == group]
        if members:
            lines += [_painted(title, "1") if colour else title, *(line for check in members for line in _lines(check, colour=colour)), ""]
    return "\n".join([*lines, summary(checks)]) + "\n"


def _lines(check: Check, *, colour: bool) -> list[str]:
    status = f"{check.status:8}"
    lines = [f"  {_painted(status, _COLOURS[check.status]) if colour else status} {_printable(check.what)}"]
    if check.do:
        lines.append(f"{_INDENT}do: {_printable(check.do)}")
    return lines


def _painted(words: str, colour: str) -> str:
    return f"\x1b[{colour}m{words}\x1b[0m"


def _printable(words: str) -> str:
    """A file's name, or what a program said, must not run over the terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in words)


def summary(checks: list[Check]) -> str:
    """The last line."""
    counts = Counter(check.status for check in checks)
    words = [f"{counts[status]} {status if counts[status] == 1 else status + 's'}" for status in (ERROR, WARNING, NOTE) if counts[status]]
    head = "nothing is wrong"
    if counts[ERROR]:
        head = "Docker does not work as it should"
    elif counts[WARNING]:
        head = "no errors"
    return f"{head}: {len(checks)} check{'' if len(checks) == 1 else 's'}" + (f", {', '.join(words)}" if words else "")


def as_json(checks: list[Check]) -> str:
    """One object: `ok`, `counts` by status, `checks`. Documented in docs/doctor.md."""
    counts = Counter(check.status for check in checks)
    document = {
        "ok": is_ok(checks),
        "counts": {status: counts[status] for status in STATUSES},
        "checks": [{**check._asdict(), "what": _printable(check.what), "do": _printable(check.do)} for check in checks],
    }
    return json.dumps(document, indent=2) + "\n"
