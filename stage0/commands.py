"""The commands there are, and the way to them: a table, so that each run imports the one module it needs.

A command's module has `DESCRIPTION`, `declare(flags)` and `execute(context, flags, arguments) -> status`; with `INTERSPERSED = False` its
flags end at the first other argument.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appc.errors import UserError

from .context import Context
from .flags import FlagError, FlagSet, HelpRequested
from .output import Failure, Quit

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(NamedTuple):
    """`name` as typed, of a group with the group's; `module` below stage0; `usage` what follows the name; `superuser`: for root only."""

    name: str
    module: str
    summary: str
    usage: str = ""
    superuser: bool = False
    hidden: bool = False

    @property
    def last_name(self) -> str:
        """The name without the group: the prefix of the command's messages."""
        return self.name.rpartition(" ")[2]


class CommandModule(Protocol):
    """What a command's module offers."""

    DESCRIPTION: str

    def declare(self, flags: FlagSet) -> None:
        """Add the command's own flags."""

    def execute(self, context: Context, flags: FlagSet, arguments: list[str]) -> int:
        """Do it, and return the exit status. May raise UserError, OSError, Quit, UsageWanted."""


class UsageWanted(Exception):
    """A command that was called with the wrong number of arguments."""


_IMAGES = "[--volume=name,kind=host,...] [--mount volume=VOL,target=PATH]"
_PER_IMAGE = "IMAGE [-- image-args...[---]]..."

COMMANDS = (
    Command("api-service", "unsupported", "Run API service (experimental)", hidden=True),
    Command("app", "unsupported", "Operate on an app of a mutable pod", hidden=True),
    Command("attach", "unsupported", "Attach to an app's streams", hidden=True),
    Command("cat-manifest", "cat_manifest_command", "Inspect and print the pod manifest", "--uuid-file=FILE | UUID ..."),
    Command("completion", "unsupported", "Output shell completion code for the specified shell", hidden=True),
    Command("config", "unsupported", "Print configuration for each stage in JSON format", hidden=True),
    Command("enter", "enter_command", "Enter the namespaces of an app within a rkt pod", "[--app=APPNAME] UUID [CMD [ARGS ...]]", True),
    Command("export", "unsupported", "Export an app from an exited pod to an ACI file", hidden=True),
    Command("fetch", "image_commands.fetch", "Fetch image(s) and store them in the local store", "IMAGE..."),
    Command(
        "gc", "gc_command", "Garbage collect rkt pods no longer in use", "[--grace-period=duration] [--expire-prepared=duration]", True
    ),
    Command("image", "", "Operate on image(s) in the local store", "[command]"),
    Command("image cat-manifest", "image_commands.cat_manifest", "Inspect and print the image manifest", "IMAGE"),
    Command("image export", "image_commands.export", "Export a stored image to an ACI file", "IMAGE OUTPUT_ACI_FILE"),
    Command("image extract", "image_commands.extract", "Extract a stored image to a directory", "IMAGE OUTPUT_DIR"),
    Command("image gc", "image_commands.gc", "Garbage collect local store", "[--grace-period=duration]"),
    Command("image list", "image_commands.list", "List images in the local store"),
    Command("image render", "image_commands.render", "Render a stored image to a directory with all its dependencies", "IMAGE OUTPUT_DIR"),
    Command(
        "image rm", "image_commands.rm", "Remove one or more images with the given IDs or image names from the local store", "IMAGE..."
    ),
    Command("image verify", "image_commands.verify", "Verify one or more rendered images in the local store", "IMAGE..."),
    Command("list", "list_command", "List pods"),
    Command("metadata-service", "unsupported", "Run metadata service", hidden=True),
    Command("prepare", "prepare_command", "Prepare to run image(s) in a pod in rkt", f"{_IMAGES} [--quiet] {_PER_IMAGE}", True),
    Command("rm", "rm_command", "Remove all files and resources associated with an exited pod", "--uuid-file=FILE | UUID ...", True),
    Command("run", "run_command", "Run image(s) in a pod in rkt", f"{_IMAGES} {_PER_IMAGE}", True),
    Command("run-prepared", "run_prepared_command", "Run a prepared application pod in rkt", "UUID", True),
    Command(
        "status",
        "status_command",
        "Check the status of a rkt pod",
        "[--wait=bool|timeout] [--wait-ready=bool|timeout] --uuid-file=FILE | UUID",
    ),
    Command("stop", "stop_command", "Stop a pod", "--uuid-file=FILE | UUID ..."),
    Command("trust", "unsupported", "Trust a key for image verification", hidden=True),
    Command("version", "version_command", "Print the version and exit"),
    Command("help", "help", "Help about any command", "[command]"),
)


def dispatch(arguments: Sequence[str]) -> int:
    """Run what the command line says; returns the exit status (contract section 6)."""
    context = Context()
    try:
        command, rest = find(arguments)
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 254
    flags = FlagSet()
    context.declare(flags)
    try:
        if command is None or not command.module:
            flags.parse(rest)
            return _usage_of_group(context, command)
        context.log.prefix = command.last_name
        module = load(command)
        flags.interspersed = getattr(module, "INTERSPERSED", True)
        module.declare(flags)
        left = flags.parse(rest)
        if command.superuser and os.geteuid() != 0:
            context.log.say("cannot run as unprivileged user")
            return 254
        return _execute(context, command, module, flags, left)
    except HelpRequested:
        return show_usage(command)
    except FlagError as error:
        show_usage(command)
        sys.stdout.flush()
        sys.stderr.write(f"Error: {error}\n\n")
        return 254


def _execute(context: Context, command: Command, module: CommandModule, flags: FlagSet, arguments: list[str]) -> int:
    try:
        status = module.execute(context, flags, arguments if command.module != "unsupported" else [command.name])
        sys.stdout.flush()
        return status
    except Quit as quit_:
        return quit_.status
    except UsageWanted:
        show_usage(command)
        return 254
    except (UserError, OSError) as error:
        context.log.failure(error)
        return error.exit_code if isinstance(error, UserError) else 254


def find(arguments: Sequence[str]) -> tuple[Command | None, list[str]]:
    """The command that is named, None for none, and the other arguments. Unambiguous beginnings of names count. Raises FlagError."""
    rest = list(arguments)
    found: Command | None = None
    group = ""
    while True:
        position = _first_word(rest)
        if position is None:
            return found, rest
        word = rest[position]
        matches = [command for command in COMMANDS if _is_called(command, group, word)]
        exact = [command for command in matches if command.last_name == word]
        if len(exact or matches) != 1:
            if found is None:
                raise FlagError(f'unknown command "{word}" for "rkt"{_suggestions(word)}\nRun \'rkt --help\' for usage.')
            return found, rest
        found = (exact or matches)[0]
        del rest[position]
        if found.module:
            return found, rest
        group = found.name + " "


def load(command: Command) -> CommandModule:
    """Import a command's module; `module.name` is a member of that name in it."""
    from importlib import import_module

    name, _, member = command.module.partition(".")
    module = import_module(f"stage0.{name}")
    return getattr(module, member) if member else module  # type: ignore[return-value, no-any-return, unused-ignore]


def show_usage(command: Command | None) -> int:
    """Print a command's usage on standard output."""
    from .help import usage_text

    sys.stdout.write(usage_text(command))
    sys.stdout.flush()
    return 0


def _usage_of_group(context: Context, command: Command | None) -> int:
    if command is None:
        context.log.say("missing command")
    show_usage(command)
    return 0 if command else 2


def _is_called(command: Command, group: str, word: str) -> bool:
    return command.name.startswith(group + word) and " " not in command.name[len(group) :]


def _first_word(arguments: Sequence[str]) -> int | None:
    """Where the first argument is that is neither a flag nor, as far as can be known before the command is, a flag's value."""
    value_expected = False
    for index, argument in enumerate(arguments):
        if argument.startswith("-"):
            value_expected = (
                argument.startswith("--") and "=" not in argument and argument not in ("--debug", "--trust-keys-from-https", "--help")
            )
        elif value_expected:
            value_expected = False
        elif argument:
            return index
    return None


def _suggestions(word: str) -> str:
    from .help import similar

    names = similar(word, [command.name for command in COMMANDS if " " not in command.name and not command.hidden])
    return "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in names) if names else ""


__all__ = ["COMMANDS", "Command", "CommandModule", "Failure", "UsageWanted", "dispatch", "find", "load", "show_usage"]
