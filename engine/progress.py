"""Lines about what is being done, and which step it was when something fails."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


class StepError(UserError):
    """A step that failed: which, why, and what the host is like now."""


class Progress:
    """Steps of a command, counted aloud."""

    def __init__(self, command: str, steps: int, after_failure: str) -> None:
        self.command = command
        self.steps = steps
        self.after_failure = after_failure
        self._number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say `title`; an error inside becomes a StepError that says it too."""
        self._number += 1
        self.say(f"[{self._number}/{self.steps}] {title}")
        try:
            yield
        except UserError as error:
            raise StepError(f"{title}: {error.message}", hint=error.hint or self.after_failure) from error
        except OSError as error:
            raise StepError(f"{title}: {error.filename or ''}: {error.strerror}", hint=self.after_failure) from error

    def say(self, text: str) -> None:
        """One line, at once: the next step may take seconds."""
        sys.stdout.write(f"skim {self.command}: {text}\n")
        sys.stdout.flush()
