"""How a test says that the two sides differ, and why."""

from __future__ import annotations

import pytest


def differs(side: str, why: str) -> pytest.MarkDecorator:
    """What the test asserts does not hold on `side` (`stock` or `ours`), which is meant: it must fail there, for this reason."""
    return pytest.mark.differs(side, why)


def only_ours(why: str) -> pytest.MarkDecorator:
    """The test runs on the appliance alone; `why` stands in the other column."""
    return pytest.mark.only_ours(why=why)
