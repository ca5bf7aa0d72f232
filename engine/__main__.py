"""The command `skim`."""

from __future__ import annotations

import os
import sys

from appc.errors import UserError
from linux.termination import Terminated, die_by, raise_on_termination

VERSION = "0.1.0"

HELP = """\
usage: skim setup [--plan] | remove | status [--json] | doctor [--json] | --version | --help

The appliance that is this host's Docker: two images, containerd and docker, run as one pod of ordinary systemd services.

  setup     make the images named in /etc/skim/docker.conf this host's Docker: store them, mount them below /run/skim/engine,
            enable docker.service and docker.socket. Run it again after changing the file; containers are not touched. Over a Docker
            that the host has already: says first what it takes over and what stops; --plan says only that
  remove    undo setup. Docker is stopped, and the one that the host had before is back; images, volumes and containers in
            /var/lib/docker are kept
  status    the installed engine and whether it runs; --json for programs. Exit status 1: none is set up
  doctor    look at all that Docker needs of this host: kernel, cgroups, storage, units, daemon.json, engine, space. For each finding it
            says what to do. It changes nothing, and may run before setup and as any user; --json for programs.
            Exit status 0: no error (warnings and notes may be), 1: errors

From there on it is plain Docker:

  systemctl start docker        journalctl -u docker        docker run --rm hello-world

Settings go where they always did: /etc/docker/daemon.json, /etc/default/docker (DOCKER_OPTS), `systemctl edit docker`.
"""


def main(words: list[str]) -> int:
    """Returns the exit status. Raises UserError."""
    match words:
        case ["--help" | "-h" | "help"]:
            sys.stdout.write(HELP)
        case ["--version" | "version"]:
            sys.stdout.write(f"skim {VERSION}\n")
        case ["setup"]:
            from engine.layout import installed_layout
            from engine.setup import setup

            setup(installed_layout())
        case ["setup", "--plan"]:
            from engine.layout import installed_layout
            from engine.setup import show_plan

            show_plan(installed_layout())
        case ["remove"]:
            from engine.layout import installed_layout
            from engine.remove import remove

            remove(installed_layout())
        case ["status"] | ["status", "--json"]:
            return show_status(as_json=len(words) > 1)
        case ["doctor"] | ["doctor", "--json"]:
            return examine_host(as_json=len(words) > 1)
        case []:
            raise UserError("what shall be done? setup, remove, status or doctor", hint="`skim --help` explains them")
        case _:
            raise UserError(f"cannot do `{' '.join(words)}`", hint="`skim --help` lists what can be done")
    return 0


def show_status(*, as_json: bool) -> int:
    from engine import status
    from engine.layout import installed_layout

    found = status.look(installed_layout())
    sys.stdout.write(status.status_json(found) if as_json else status.status_text(found))
    return 0 if found.engine else 1


def examine_host(*, as_json: bool) -> int:
    from engine.doctor import rendering
    from engine.doctor.examine import examine
    from engine.doctor.finding import is_ok
    from engine.layout import installed_layout

    checks = examine(installed_layout())
    sys.stdout.write(rendering.as_json(checks) if as_json else rendering.text(checks, colour=sys.stdout.isatty()))
    return 0 if is_ok(checks) else 1


def run() -> int:
    """Turn a mistake of the user's, or of the host's, into one line and its exit status; a bug keeps its traceback."""
    try:
        raise_on_termination()
        os.umask(0o022)  # whatever root's is: what is made here is for everybody to read
        return main(sys.argv[1:])
    except UserError as error:
        sys.stderr.write(f"skim: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"skim: {error.filename or ''}: {error.strerror}\n")
        return UserError.exit_code
    except Terminated as ended:
        sys.stderr.write("skim: interrupted\n")
        die_by(ended.number)
    except KeyboardInterrupt:
        sys.stderr.write("skim: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(run())
