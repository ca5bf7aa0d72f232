"""Flags as rkt reads them (spf13/pflag): `--name=value`, `--name value`, flags with an optional value, parsing that can be resumed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from appc.errors import UserError

from .output import quote
from .times import format_duration, parse_boolean, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FlagError(UserError):
    """A flag that does not exist or that cannot have this value; printed with the command's usage."""


class HelpRequested(Exception):
    """--help or -h."""


class Flag(NamedTuple):
    """One flag. `accept` takes a value, raising ValueError or UserError if it is wrong; `bare` is the value without `=`, if that may be."""

    name: str
    accept: Callable[[str], None]
    usage: str
    default: str = ""
    bare: str | None = None
    quoted: bool = False
    hidden: bool = False
    deprecated: str = ""


class FlagSet:
    """The flags of a command, and the values that were given for them."""

    def __init__(self, *, interspersed: bool = True) -> None:
        self.interspersed = interspersed
        self.flags: dict[str, Flag] = {}
        self._values: dict[str, Any] = {}
        self.given: set[str] = set()
        # What a command's own kinds of flags gather while they are read.
        self.gathered: Any = None

    def add(self, flag: Flag) -> None:
        """Declare a flag."""
        self.flags[flag.name] = flag

    def boolean(self, name: str, usage: str, *, default: bool = False, deprecated: str = "") -> None:
        """Declare a flag that is true or false."""
        self._values[name] = default
        text = "true" if default else "false"
        self.add(Flag(name=name, accept=self._setter(name, parse_boolean), usage=usage, default=text, bare="true", deprecated=deprecated))

    def text(self, name: str, usage: str, default: str = "", *, bare: str | None = None) -> None:
        """Declare a flag with any value."""
        self._values[name] = default
        self.add(Flag(name=name, accept=self._setter(name, str), usage=usage, default=default, bare=bare, quoted=True))

    def texts(self, name: str, usage: str) -> None:
        """Declare a flag that may be given several times."""
        self._values[name] = []
        self.add(Flag(name=name, accept=self._values[name].append, usage=usage))

    def duration(self, name: str, usage: str, default: int) -> None:
        """Declare a flag with a duration; the default in nanoseconds."""
        self._values[name] = default
        self.add(Flag(name=name, accept=self._setter(name, parse_duration), usage=usage, default=format_duration(default)))

    def choice(self, name: str, usage: str, choices: Sequence[str]) -> None:
        """Declare a flag with one of some values, "" if not given."""

        def convert(text: str) -> str:
            if text not in choices:
                raise ValueError(f"Invalid format option: {text}")
            return text

        self._values[name] = ""
        self.add(Flag(name=name, accept=self._setter(name, convert), usage=usage))

    def value(self, name: str) -> Any:
        """What was given for a flag of one of the simple kinds, else its default."""
        return self._values[name]

    def _setter(self, name: str, convert: Callable[[str], Any]) -> Callable[[str], None]:
        def accept(text: str) -> None:
            self._values[name] = convert(text)

        return accept

    def parse(self, arguments: Sequence[str]) -> list[str]:
        """Take the flags out of `arguments` and return what is left.

        Not interspersed: parsing stops before the first argument that is no flag. `--` is dropped and ends the flags. Raises FlagError.
        """
        rest = list(arguments)
        left: list[str] = []
        while rest:
            argument = rest.pop(0)
            if len(argument) < 2 or argument[0] != "-":
                left.append(argument)
                if not self.interspersed:
                    break
            elif argument == "--":
                break
            elif argument.startswith("--"):
                self._parse_long(argument, rest)
            elif argument[1] == "h":
                raise HelpRequested
            else:
                raise FlagError(f"unknown shorthand flag: '{argument[1]}' in {argument}")
        return left + rest

    def _parse_long(self, argument: str, rest: list[str]) -> None:
        name, equals, value = argument[2:].partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {argument}")
        flag = self.flags.get(name)
        if flag is None:
            if name == "help":
                raise HelpRequested
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if flag.bare is not None:
                value = flag.bare
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {argument}")
        try:
            flag.accept(value)
        except (ValueError, UserError, OSError) as error:
            from .output import describe

            raise FlagError(f"invalid argument {quote(value)} for {argument}: {describe(error)}") from None
        self.given.add(name)
        if flag.deprecated:
            sys.stderr.write(f"Flag --{name} has been deprecated, {flag.deprecated}\n")
