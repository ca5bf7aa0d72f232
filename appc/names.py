"""Names of the App Container specification, by the rules that rkt's parser really applies (contract section 8.4).

The specification's expressions are stricter (`a--b` is no ACName there); images in the wild are not.
"""

from __future__ import annotations

import re

from appc.errors import UserError

# Characters in strings, not regular expressions: compiling those is a good part of what a program's start costs.
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"
_ENVIRONMENT_FIRST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"


def is_ac_identifier(text: str) -> bool:
    return _is_made_of(text, _ALPHANUMERIC + "-._~/")


def is_ac_name(text: str) -> bool:
    return _is_made_of(text, _ALPHANUMERIC + "-")


def _is_made_of(text: str, characters: str) -> bool:
    return text != "" and text.strip(characters) == "" and text[0] in _ALPHANUMERIC and text[-1] in _ALPHANUMERIC


def is_environment_name(text: str) -> bool:
    return text != "" and text[0] in _ENVIRONMENT_FIRST and text.strip(_ENVIRONMENT_FIRST + "0123456789.-") == ""


def sanitize_ac_name(text: str) -> str:
    """The ACName nearest to `text`: lower case, other characters as dashes, no dashes at the edges. Raises UserError if nothing is left."""
    name = re.sub("[^a-z0-9-]", "-", text.lower()).strip("-")
    if not name:
        raise UserError(f'"{text}" cannot be made a name: it must contain at least one valid character')
    return name


def normal_version(text: str) -> str | None:
    """A semantic version as Go writes it, None for what is none or is 0.0.0."""
    match = re.fullmatch(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})(-[^+]*)?(\+.*)?", text, re.DOTALL)
    if match is None:
        return None
    version = ".".join(str(int(part)) for part in match.group(1, 2, 3)) + (match[4] or "") + (match[5] or "")
    return None if version == "0.0.0" else version


def parse_uuid(text: str) -> str:
    """A pod's UUID in lower case with dashes; dashes in the argument may be missing. Raises UserError."""
    digits = text.replace("-", "").lower()
    if re.fullmatch("[0-9a-f]{32}", digits) is None:
        raise UserError(f'"{text}" is not a UUID: 32 hexadecimal digits are expected')
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
