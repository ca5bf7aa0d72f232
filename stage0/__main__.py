"""The front door: `python -m stage0`, installed as `rkt`."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> int:
    """Run the command that sys.argv names and return its exit status."""
    import signal

    from linux.termination import Terminated, die_by, raise_on_termination

    # Python ignores SIGPIPE, and what is ignored stays so in the programs that take this process over.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # The same text in every locale; bytes of file names that are no UTF-8 go out as they came in.
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    try:
        raise_on_termination()
        from stage0.commands import dispatch

        return dispatch(sys.argv[1:])
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    except Terminated as ended:
        die_by(ended.number)


if __name__ == "__main__":
    sys.exit(main())
