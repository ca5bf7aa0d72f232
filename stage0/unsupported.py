"""Commands of rkt that this launcher does not have: they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from appc.errors import UserError

if TYPE_CHECKING:
    from .context import Context
    from .flags import FlagSet

DESCRIPTION = "Not implemented by the launcher that is embedded here."
INTERSPERSED = False
_INSTEAD = {
    "app": "the embedded stage1 has no mutable pods, since an app's service lives as long as its pod: run another; see docs/stage1.md",
    "attach": "no output is held back for a later reader: `journalctl -t APP` shows it, and `rkt run --interactive` is attached from the "
    "start; see docs/stage1.md",
    "trust": "signatures are not checked yet: images are accepted with --insecure-options=image only",
}


def declare(flags: FlagSet) -> None:
    """Take any flag that is asked for, so that the answer is not that the flag is unknown."""
    flags.parse = lambda arguments: list(arguments)  # type: ignore[method-assign]


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> NoReturn:
    """`arguments` is the command's name."""
    name = arguments[0]
    raise UserError(f'the command "{name}" is not implemented by this launcher', hint=_INSTEAD.get(name, "use rkt itself for it"))
