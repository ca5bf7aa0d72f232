"""How commands name pods: UUIDs, beginnings of them, or a file that holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import pods

from .commands import UsageWanted
from .output import Failure

if TYPE_CHECKING:
    from poddir.pods import Pod

    from .context import Context
    from .flags import FlagSet


def declare_uuid_file(flags: FlagSet) -> None:
    """--uuid-file."""
    flags.text("uuid-file", "read pod UUID from file instead of argument")


def named_pods(flags: FlagSet, arguments: list[str], *, several: bool) -> list[str]:
    """What was given to name pods: from the command line or the file, never both. Raises UsageWanted, Failure."""
    path = flags.value("uuid-file")
    if path and not arguments:
        try:
            return [pods.read_uuid_file(path)]
        except OSError as error:
            raise Failure("unable to resolve UUID from file") from error
    if not arguments or path or (len(arguments) > 1 and not several):
        raise UsageWanted
    return arguments


def find_pod(context: Context, text: str, failure: str = "problem retrieving pod") -> Pod:
    """The pod that is meant. Raises Failure with that message."""
    try:
        return pods.find(context.data_directory, text)
    except (UserError, OSError) as error:
        raise Failure(failure) from error
