"""Front door of aci-build: one command line, one image."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

from aci_build.build import build_image
from aci_build.options import parse_options
from aci_build.progress import Progress
from appc.errors import ManifestError, UserError


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 254 for what the user can mend, 130 and 143 when told to stop."""
    options = parse_options(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        built = build_image(options, Progress(verbose=options.verbose, quiet=options.quiet))
    except ManifestError as error:
        print(f"aci-build: error: {error.document} is not valid:", *error.problems, sep="\n  ", file=sys.stderr)
        return error.exit_code
    except UserError as error:
        print(f"aci-build: error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        print(f"aci-build: error: {error.filename or options.output}: {error.strerror}", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print("aci-build: interrupted; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT
    print(built.image_id)
    return 0


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """As an exception, so that everything temporary is removed on the way out."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
