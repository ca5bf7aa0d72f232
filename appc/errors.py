"""Errors that are the user's to mend: what is wrong, where, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


# Problems in a manifest's message, and characters of each.
_LISTED = 30
_LENGTH = 300


class UserError(Exception):
    """A mistake in input or on the host. Printed as one line, never as a traceback.

    `hint` says what to do about it. `exit_code` is the status of the program that gives up because of it (contract section 6).
    """

    exit_code = 254

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Problem(NamedTuple):
    """One mistake in a manifest: the path in the document (`apps[1].app.exec`, empty for the document itself) and what is wrong there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ManifestError(UserError):
    """A manifest that does not hold. `problems` has all that was found; the message lists them on one line, as many as fit one."""

    def __init__(self, document: str, problems: Sequence[Problem]) -> None:
        listed = "; ".join(_on_one_line(str(problem)) for problem in problems[:_LISTED])
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        super().__init__(f"{document} is not valid: {listed}{more}")
        self.document = document
        self.problems = tuple(problems)


def _on_one_line(text: str, length: int = _LENGTH) -> str:
    """What a hostile manifest or archive put into a message must not run over the terminal."""
    short = text if len(text) <= length else text[: length // 2] + " ... " + text[-length // 2 :]
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in short)


class ArchiveError(UserError):
    """An image archive that is damaged, or that contains what no image may contain."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(_on_one_line(message, 1000), hint=hint)
