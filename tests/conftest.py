"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Generator

import hypothesis
import pytest

from hosts.host import Host

# Assertions there explain themselves as those in test modules do.
pytest.register_assert_rewrite("docker_behaviour")

# How long an example takes says something of the machine only.
hypothesis.settings.register_profile("skim", deadline=None)
hypothesis.settings.load_profile("skim")


def pytest_configure() -> None:
    """A run in the background of a shell, or under nohup, ignores these, and every program that a test starts would inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The module that takes longest first: what starts last would go on alone at the end, on one of the processors."""
    items.sort(key=lambda item: item.path.name != "test_boot.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its hosts had to say: they are gone when somebody reads it."""
    report = yield
    if report.failed:
        for host in sorted(Host.of_this_process, key=lambda host: host.name):
            if said := host.last_words():
                report.sections.append((f"last words of {host.name}", said))
    return report
