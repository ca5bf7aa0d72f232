"""The launcher: the main process of a service that systemd alone cannot start as asked, until it becomes the app.

systemd looks users up in the host's database and adds the groups that the host gives them, and takes not every variable. Here the
image's word is final: credentials, environment and directory are exactly those of the instructions.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from appc.errors import UserError
from linux.signals import SIGPIPE, SIGXFSZ, restore_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stage1_skim.credentials import Credentials


def main(words: Sequence[str]) -> int:
    """`words` is the file of instructions, which root alone can read. Returns only by raising UserError."""
    if len(words) != 1:
        raise UserError("one file of instructions is expected")
    try:
        with open(words[0], encoding="utf-8") as file:
            told = json.load(file)
        # What systemd tells its services, and what the operator gives all of them, an app hears however it is started.
        environment = {**os.environ, **told["environment"]}
        given_up, calls = told.get("capabilities to give up"), told.get("system calls")
        if given_up:
            from linux.privileges import drop_capabilities

            drop_capabilities(given_up)
        become(told["uid"], told["gid"], told["groups"])
        os.chdir(told["directory"])
        # As systemd starts a service itself: it ignores SIGPIPE for it, unless the unit says otherwise.
        restore_defaults((SIGXFSZ,) if told.get("ignores SIGPIPE", True) else (SIGPIPE, SIGXFSZ))
        if calls:
            _execute_filtered(told, environment, calls)
        os.execve(told["program"], told["argv"], environment)
    except OSError as error:
        raise UserError(f"cannot start the app: {error.filename or words[0]}: {error.strerror}") from None


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Take on an app's credentials for good."""
    if os.getuid() == 0:
        os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def become_app(credentials: Credentials) -> None:
    become(credentials.uid, credentials.gid, credentials.groups)


def _execute_filtered(told: Mapping[str, Any], environment: Mapping[str, str], calls: Mapping[str, Any]) -> None:
    """Returns only by raising OSError or UserError."""
    import errno

    from linux.privileges import CallFilter, execute

    number = getattr(errno, calls["errno"]) if calls["errno"] else 0
    execute(told["program"], told["argv"], environment, CallFilter(allowing=calls["allowing"], calls=calls["names"], errno=number))
