"""One program, called by the name of the entrypoint: run, enter, stop, gc; and `launch`, which services of the pod are started by."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTRYPOINTS = ("run", "enter", "stop", "gc", "launch")


def main() -> int:
    name = os.path.basename(sys.argv[0])
    words = sys.argv[1:]
    if name not in _ENTRYPOINTS and words:  # from the source tree: `python -m stage1_skim run …`
        name = words.pop(0)
    if name not in _ENTRYPOINTS:
        print(f"stage1_skim: {name!r} is no entrypoint; it is called as one of {', '.join(_ENTRYPOINTS)}", file=sys.stderr)
        return UserError.exit_code
    try:
        return _call(name, words)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{name}: {error.filename or 'the host'}: {error.strerror or error}", file=sys.stderr)
        return UserError.exit_code


def _call(name: str, words: Sequence[str]) -> int:
    """Import one entrypoint alone: what the others need would only make it start later."""
    if name == "run":
        from stage1_skim.run import main as entrypoint
    elif name == "enter":
        from stage1_skim.enter import main as entrypoint
    elif name == "stop":
        from stage1_skim.stop import main as entrypoint
    elif name == "gc":
        from stage1_skim.gc import main as entrypoint
    else:
        from stage1_skim.launch_app import main as entrypoint
    return entrypoint(words)


if __name__ == "__main__":
    sys.exit(main())
