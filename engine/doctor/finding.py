"""What the doctor says of one thing: frozen values, and what can be told from a list of them."""

from __future__ import annotations

from typing import NamedTuple

OK = "ok"
NOTE = "note"
WARNING = "warning"
ERROR = "error"
STATUSES = (OK, NOTE, WARNING, ERROR)
"""From harmless to harmful: a note is worth knowing, a warning will hurt somebody, with an error Docker does not work."""


class Check(NamedTuple):
    """One line of the table. `id` is stable; `what` says how it is, `do` what to do about it, "" for what is ok."""

    id: str
    group: str
    status: str
    what: str
    do: str = ""


def ok(name: str, what: str) -> Check:
    """All is well with it."""
    return Check(name, name.partition(".")[0], OK, what)


def note(name: str, what: str, do: str) -> Check:
    """Worth knowing; nothing is wrong."""
    return Check(name, name.partition(".")[0], NOTE, what, do)


def warning(name: str, what: str, do: str) -> Check:
    """Docker works, but not as somebody expects."""
    return Check(name, name.partition(".")[0], WARNING, what, do)


def error(name: str, what: str, do: str) -> Check:
    """Docker does not work like this."""
    return Check(name, name.partition(".")[0], ERROR, what, do)


def unseen(name: str, what: str) -> Check:
    """What only root may look at."""
    return note(name, f"not looked at: {what}", "run `skim doctor` as root to have it looked at")


def is_ok(checks: list[Check]) -> bool:
    """Whether there is no error among them."""
    return all(check.status != ERROR for check in checks)
