"""What all tests share."""

from __future__ import annotations

import signal

import pytest

# Assertions there explain themselves as those in test modules do.
pytest.register_assert_rewrite("docker_behaviour")


def pytest_configure() -> None:
    """A run in the background of a shell, or under nohup, ignores these, and every program that a test starts would inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The module that takes longest first: what starts last would go on alone at the end, on one of the processors."""
    items.sort(key=lambda item: item.path.name != "test_boot.py")
