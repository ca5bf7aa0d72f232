"""Image IDs as rkt writes them (contract section 8.2).

The specification's ID is `sha512-` and 128 hex digits over the uncompressed archive. rkt keeps and prints the first 64 of them: the key,
which is what this project calls an image's ID everywhere.
"""

from __future__ import annotations

import re

PREFIX = "sha512-"
KEY_DIGITS = 64
KEY_LENGTH = len(PREFIX) + KEY_DIGITS
MIN_PREFIX_LENGTH = len(PREFIX) + 2


def key_of_digest(hex_digest: str) -> str:
    """The key of a full sha512 (128 hex digits, as hashlib's hexdigest gives it)."""
    return PREFIX + hex_digest[:KEY_DIGITS]


def is_key(text: str) -> bool:
    return re.fullmatch("sha512-[0-9a-f]{64}", text) is not None


def is_hash(text: str) -> bool:
    """What rkt's parser takes for a hash: exactly one dash, type sha512, any value that is not empty."""
    kind, dash, value = text.partition("-")
    return kind == "sha512" and dash == "-" and value != "" and "-" not in value


def truncated(text: str) -> str:
    """A hash cut to a key's length, as rkt cuts what it is given."""
    return text[:KEY_LENGTH]


def fetch_form(key: str) -> str:
    """What `fetch` prints without --full: 32 hex digits."""
    return key[: len(PREFIX) + 32]


def list_form(key: str) -> str:
    """What `image list` prints without --full: 12 hex digits (contract section 7.3)."""
    return key[: len(PREFIX) + 12]


def sha512_of(data: bytes) -> str:
    """In hex; for little data on the way of every start of a pod: the interpreter's own, since hashlib loads OpenSSL, which costs 5 ms."""
    try:
        from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha512

    return str(sha512(data).hexdigest())
