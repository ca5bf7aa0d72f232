"""Flags of the entrypoints as Go's flag package takes them: `-x`, `--x`, `--x=value`, `--x value` (contract sections 2.6 and 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.names import parse_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOLEAN = "boolean"
STRING = "string"

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class FlagError(UserError):
    """Flags that a stage1 does not know; the exit status is that of Go's flag package."""

    exit_code = 2


class Arguments(NamedTuple):
    """Flags by name, booleans as "true" and "false", and what follows them."""

    flags: Mapping[str, str]
    rest: tuple[str, ...]

    def is_set(self, name: str) -> bool:
        return self.flags.get(name) == "true"


def parse(words: Sequence[str], known: Mapping[str, str]) -> Arguments:
    """`known` maps a flag's name to BOOLEAN or STRING. Raises FlagError."""
    flags: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        kind = known.get(name)
        if kind is None:
            raise FlagError(f"flag provided but not defined: -{name}")
        if kind == BOOLEAN:
            if equals and value not in _TRUE + _FALSE:
                raise FlagError(f"invalid boolean value {value!r} for -{name}")
            flags[name] = "false" if value in _FALSE else "true"
        elif equals:
            flags[name] = value
        elif left:
            flags[name] = left.pop(0)
        else:
            raise FlagError(f"flag needs an argument: -{name}")
    return Arguments(flags=flags, rest=tuple(left))


def pod_uuid(arguments: Arguments) -> str:
    """The one argument of run, stop and gc. Raises UserError."""
    if len(arguments.rest) != 1:
        raise UserError(f"one pod UUID is expected, not {len(arguments.rest)} arguments")
    return parse_uuid(arguments.rest[0])
