"""What a user may write for an image: an ID, a name with labels, a path of a file (contract sections 7.3 and 7.4)."""

from __future__ import annotations

import os

from appc.app import Label
from appc.errors import UserError
from appc.image_id import is_hash
from appc.names import is_ac_identifier

HASH = "hash"
NAME = "name"
PATH = "path"

_REMOTE = ("http://", "https://", "docker:", "cimd:")


def kind_of_reference(text: str) -> tuple[str, str]:
    """HASH, NAME or PATH, and the text that belongs to it (a path without `file://`). Raises UserError for what is not supported."""
    if is_hash(text):
        return HASH, text
    if text.startswith("file://"):
        path = text[len("file://") :]
        if not path.endswith(".aci"):
            raise UserError(f'image "{text}" must have the extension .aci')
        return PATH, path
    if text.startswith(_REMOTE):
        raise UserError(f'image "{text}" would have to be downloaded, which is not supported', hint="fetch it as a local file")
    if text.startswith("/") or os.path.isfile(text):
        return PATH, text
    if ":" not in text and ("./" in text or text.endswith(".aci")):
        return PATH, text
    return NAME, text


def parse_image_name(text: str) -> tuple[str, tuple[Label, ...]]:
    """name[:version][,label=value...] as name and labels, sorted by name. Raises UserError."""
    colon, comma = text.find(":"), text.find(",")
    if colon > comma > -1:
        raise UserError("malformed app string - colon may appear only right after the app name")
    if text.count(":") > 1:
        raise UserError("malformed app string - colon may appear at most once")
    name, *parts = text.replace(":", ",version=", 1).split(",")
    labels: dict[str, str] = {}
    for part in parts:
        label, equals, value = part.partition("=")
        if not equals:
            raise UserError(f'malformed string "{text}" - has a label without a value: {part}')
        if label in labels:
            raise UserError(f'label {label} with multiple values ["{labels[label]}" "{value}"]')
        if not is_ac_identifier(label):
            raise UserError(_identifier_problem(label))
        labels[label] = value
    if not is_ac_identifier(name):
        raise UserError(_identifier_problem(name))
    return name, tuple(Label(name=label, value=labels[label]) for label in sorted(labels))


def _identifier_problem(text: str) -> str:
    """What rkt says of a name that is no AC identifier."""
    if not text:
        return "ACIdentifier cannot be empty"
    if text.strip("abcdefghijklmnopqrstuvwxyz0123456789-._~/"):
        return 'ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"'
    return "ACIdentifier must start and end with only lower case alphanumeric characters"
