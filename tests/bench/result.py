"""What one benchmark found, in the form of build/bench.json."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Result(NamedTuple):
    """`samples` are ratios of ours to the peer's, one for each pair, or single sizes in bytes.

    `limit` is what the median may reach, None where only the figure is wanted.
    """

    name: str
    samples: Sequence[float]
    limit: float | None
    peer: str
    command: str

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def json(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 4),
            "limit": self.limit,
            "peer": self.peer,
            "runs": len(self.samples),
            "min": round(min(self.samples), 4),
            "max": round(max(self.samples), 4),
            "command": self.command,
        }
