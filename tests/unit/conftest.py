"""Fixtures of several modules of unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.stage0_process import Stage0, in_mount_namespace


@pytest.fixture
def stage0(tmp_path: Path) -> Stage0:
    """stage0 on a data directory in `tmp_path`."""
    return Stage0(tmp_path)


@pytest.fixture
def mounting(tmp_path: Path) -> Iterator[Stage0]:
    """The same in a mount namespace of its own, for a test whose commands mount."""
    with in_mount_namespace(tmp_path) as stage0:
        yield stage0
