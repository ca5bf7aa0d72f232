"""What a person sees while an image is built: a line a step, on standard error."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Prints steps, with the seconds since the start; details only when verbose."""

    verbose: bool
    quiet: bool = False
    start: float = field(default_factory=time.monotonic)

    def step(self, message: str) -> None:
        if not self.quiet:
            print(f"aci-build: {time.monotonic() - self.start:5.1f} s  {message}", file=sys.stderr, flush=True)

    def detail(self, message: str) -> None:
        if self.verbose:
            self.step(f"  {message}")

    def warning(self, message: str) -> None:
        print(f"aci-build: warning: {message}", file=sys.stderr, flush=True)
