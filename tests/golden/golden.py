"""Comparing a text with a file that a person can review. `SKIM_UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(path: Path, text: str) -> None:
    if os.environ.get("SKIM_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: write it with SKIM_UPDATE_GOLDEN=1, and review it"
    assert text == path.read_text()
