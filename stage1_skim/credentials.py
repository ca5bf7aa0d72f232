"""Users and groups of an app, from its image alone: by number, by a name in the image's database, or the owner of a `/path` in it
(contract section 5.1). The host's database is never asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from appc.pod import LARGEST_ID
from linux import inside
from poddir import annotations as names

if TYPE_CHECKING:
    from stage1_skim.pod import PodApp


class Credentials(NamedTuple):
    """What an app runs as. `user` and `home` are what the image calls them."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    user: str
    home: str

    @property
    def is_root(self) -> bool:
        return self.uid == 0 and self.gid == 0 and not self.groups


ROOT = Credentials(uid=0, gid=0, groups=(), user="root", home="/root")


def app_credentials(app: PodApp) -> Credentials:
    """Raises UserError naming the app, the field and what the image lacks."""
    users = _database(app.root, "/etc/passwd")
    uid = _resolve(app, "user", app.app.user, users)
    try:
        gid = _resolve(app, "group", app.app.group, _database(app.root, "/etc/group"))
    except UserError:
        # Images converted from Docker's name no group; theirs is then the user's number.
        if app.image.annotation(names.IMAGE_DOCKER_REPOSITORY) is None:
            raise
        gid = uid
    for number in app.app.supplementary_gids:
        if not 0 <= number <= LARGEST_ID:
            raise UserError(f'app "{app.name}": supplementaryGIDs: {number} is no group ID')
    row = next((row for row in users if len(row) > 5 and row[2] == str(uid)), None)
    return Credentials(
        uid=uid,
        gid=gid,
        groups=tuple(app.app.supplementary_gids),
        user=row[0] if row else "root" if uid == 0 else str(uid),
        home=row[5] if row and row[5] else "/root" if uid == 0 else "/",
    )


def _resolve(app: PodApp, field: str, text: str, rows: list[list[str]]) -> int:
    if text == "root":
        return 0
    if text.isascii() and text.isdigit():
        number = _number(text)
        if number is not None:
            return number
    elif text.startswith("/"):
        try:
            status = os.stat(inside.outside(app.root, text))
        except OSError as error:
            raise UserError(
                f'app "{app.name}": {field} {text!r} is the owner of a file that image {app.image.name} does not have: {error.strerror}'
            ) from None
        return status.st_uid if field == "user" else status.st_gid
    else:
        for row in rows:
            if row[0] == text and len(row) > 2 and (number := _number(row[2])) is not None:
                return number
    database = "/etc/passwd" if field == "user" else "/etc/group"
    raise UserError(
        f'app "{app.name}": {field} {text!r} is not in {database} of image {app.image.name}',
        hint=f"give --{field} as a number, or a name that the image has",
    )


def _number(text: str) -> int | None:
    """None for what no user or group can have."""
    if not text.isascii() or not text.isdigit() or len(text) > len(str(LARGEST_ID)):
        return None
    return number if (number := int(text)) <= LARGEST_ID else None


def _database(root: str, path: str) -> list[list[str]]:
    """The rows of passwd(5) or group(5), split; empty where the image has none."""
    try:
        with open(inside.outside(root, path), encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n").split(":") for line in lines if ":" in line]
    except OSError:
        return []
