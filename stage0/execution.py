"""The handing over of this process to a stage1."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from .output import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def execute_program(arguments: Sequence[str], added: Mapping[str, str] | None = None) -> NoReturn:
    """execve of `arguments[0]` with the caller's environment and `added`. Raises Failure."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(arguments[0], list(arguments), {**os.environ, **(added or {})})
    except OSError as error:
        raise Failure(f"error execing {arguments[0]}") from OSError(error.errno, f"fork/exec: {error.strerror}", arguments[0])
