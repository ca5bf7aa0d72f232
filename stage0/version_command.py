"""`rkt version`: five lines, read by scripts (contract section 7.3)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from . import APPC_VERSION, VERSION
from .output import out

if TYPE_CHECKING:
    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Prints the version of rkt whose commands these are, and what runs them."


def declare(flags: FlagSet) -> None:
    """No flags."""


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the versions."""
    import os

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    out(f"rkt Version: {VERSION}")
    out(f"appc Version: {APPC_VERSION}")
    out(f"Go Version: none (skim's embedded stage0, Python {sys.version.split()[0]})")
    out(f"Go OS/Arch: linux/{machine}")
    out("Features: -TPM -SDJOURNAL")
    return 0
