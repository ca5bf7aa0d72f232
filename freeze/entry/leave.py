"""The end of a frozen program."""

import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """Exit without taking the interpreter down piece by piece, which costs 2-3 ms and frees what the kernel frees anyway."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(status)  # the long way reports it
    os._exit(status)
