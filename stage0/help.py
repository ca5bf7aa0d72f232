"""Usage texts in rkt's layout, and the command `help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import VERSION
from .commands import COMMANDS, find, load, show_usage
from .context import Context
from .flags import FlagError, FlagSet
from .tables import align

if TYPE_CHECKING:
    from .commands import Command

DESCRIPTION = ""
_SUMMARY = "rkt, the application container runner"
_OVERVIEW = """\
Runs pods of apps out of App Container Images.

"rkt help COMMAND" tells more about a command."""
_GROUPS = {"image": "Commands on the images in the local store, which are named by image ID (or the beginning of one) or by image name."}


def declare(flags: FlagSet) -> None:
    """No flags."""


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the usage of the command that is named."""
    try:
        command = find(arguments)[0]
    except FlagError:
        quoted = " ".join(f"`{argument}`" for argument in arguments)
        print(f"Unknown help topic [{quoted}].", end="")
        command = None
    return show_usage(command)


def usage_text(command: Command | None) -> str:
    """The whole text; None is rkt itself."""
    name = command.name if command else "rkt"
    parts = [f"NAME:\n\t{name} - {command.summary if command else _SUMMARY}\n"]
    line = f"rkt {command.name} {command.usage}".rstrip() if command else "rkt [command]"
    parts.append(f"\nUSAGE:\n\t{line}\n")
    if command is None:
        parts.append(f"\nVERSION:\n\t{VERSION}\n")
    if command is None or not command.module:
        group = f"{command.name} " if command else ""
        listed = [entry for entry in COMMANDS if entry.module and not entry.hidden and entry.name.startswith(group)]
        parts.append("\nCOMMANDS:\n" + "".join(f"\t{entry.name[len(group) :]}\t{entry.summary}\n" for entry in listed))
    description = _description(command)
    if description:
        parts.append("\nDESCRIPTION:\n" + "".join(f"\t{line}\n" for line in description.strip().split("\n")))
    own, shared = _flags(command)
    if own.flags:
        parts.append("\nOPTIONS:\n" + _flag_lines(own))
    if shared.flags:
        parts.append("\nGLOBAL OPTIONS:\n" + _flag_lines(shared))
    return align("".join(parts) + "\n")


def similar(word: str, names: list[str]) -> list[str]:
    """Names that `word` may have been meant to be: two edits away, or begun by it."""
    return [name for name in names if name.startswith(word) or _distance(word, name) <= 2]


def _description(command: Command | None) -> str:
    if command is None:
        return _OVERVIEW
    return load(command).DESCRIPTION if command.module else _GROUPS[command.name]


def _flags(command: Command | None) -> tuple[FlagSet, FlagSet]:
    own, shared = FlagSet(), FlagSet()
    Context().declare(shared)
    if command is None:
        return shared, own
    if command.module:
        load(command).declare(own)
    return own, shared


def _flag_lines(flags: FlagSet) -> str:
    lines = []
    for name in sorted(flags.flags):
        flag = flags.flags[name]
        if flag.hidden or flag.deprecated:
            continue
        value = f'="{flag.default}"' if flag.quoted else f"={flag.default}"
        if flag.bare is not None:
            value = f"[{value}]"
        lines.append(f"      --{name}{value}\t{flag.usage}\n")
    return "".join(lines)


def _distance(left: str, right: str) -> int:
    """Levenshtein's."""
    row = list(range(len(right) + 1))
    for index, one in enumerate(left, 1):
        previous, row[0] = row[0], index
        for column, other in enumerate(right, 1):
            previous, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, previous + (one != other))
    return row[-1]
