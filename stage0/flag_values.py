"""Values of the flags of `run` and `prepare`, read from text (contract sections 4.3, 4.5).

All functions raise ValueError with rkt's message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.names import is_ac_name
from appc.pod import EMPTY_VOLUME_MODE, LARGEST_ID, ExposedPort, Mount, Volume, is_mode

from .output import quote
from .times import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Mapping

_VOLUME_KEYS = ("name", "kind", "source", "readOnly", "recursive", "mode", "uid", "gid")


def ac_name(text: str) -> str:
    """An ACName, unchanged."""
    if not text:
        raise ValueError("ACName cannot be empty")
    if is_ac_name(text):
        return text
    if text.strip("-") != text and is_ac_name(text.strip("-")):
        raise ValueError("ACName must start and end with only lower case alphanumeric characters")
    raise ValueError('ACName must contain only lower case alphanumeric characters plus "-"')


def integer(text: str) -> int:
    """A decimal integer, as strconv.Atoi reads it."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return number


def volume(text: str) -> Volume:
    """`NAME,kind=host,source=/s[,readOnly=B][,recursive=B]` or `NAME,kind=empty[,mode=M][,uid=N][,gid=N]`."""
    try:
        return _volume(text)
    except ValueError as error:
        raise ValueError(f"invalid value in --volume flag {quote(text)}: {error}") from None


def _volume(text: str) -> Volume:
    fields: dict[str, str] = {}
    for part in f"name={text}".split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"malformed string {quote('name=' + text)} - has a label without a value: {key}")
        if key in fields:
            raise ValueError(f"label {key} with multiple values [{quote(fields[key])} {quote(value)}]")
        if key not in _VOLUME_KEYS:
            raise ValueError(f"unknown volume parameter {quote(key)}")
        fields[key] = value
    empty = fields.get("kind") == "empty"
    found = Volume(
        name=ac_name(fields["name"]),
        kind=fields.get("kind", ""),
        source=fields.get("source") or None,
        read_only=parse_boolean(fields["readOnly"]) if "readOnly" in fields else None,
        recursive=parse_boolean(fields["recursive"]) if "recursive" in fields else None,
        mode=fields.get("mode", EMPTY_VOLUME_MODE if empty else None),
        uid=integer(fields["uid"]) if "uid" in fields else 0 if empty else None,
        gid=integer(fields["gid"]) if "gid" in fields else 0 if empty else None,
    )
    _check_volume(found)
    return found


def _check_volume(found: Volume) -> None:
    if found.kind == "empty":
        if found.source:
            raise ValueError("source for empty volume must be empty")
        if not is_mode(found.mode or ""):
            raise ValueError(f"mode {quote(found.mode or '')} is not made of octal digits up to 07777")
        for name, number in (("uid", found.uid), ("gid", found.gid)):
            if not 0 <= (number or 0) <= LARGEST_ID:
                raise ValueError(f"{name} {number} is not between 0 and {LARGEST_ID}")
    elif found.kind == "host":
        if not found.source:
            raise ValueError("source for host volume cannot be empty")
        for name, value in (("mode", found.mode), ("uid", found.uid), ("gid", found.gid)):
            if value is not None:
                raise ValueError(f"{name} for host volume cannot be set")
        if not found.source.startswith("/"):
            raise ValueError("source for host volume must be absolute path")
    else:
        raise ValueError('unrecognized volume kind: should be one of "empty", "host"')


def mount(text: str) -> Mount:
    """`volume=NAME,target=PATH`, with the escapes of a URL's query (so a `+` is a blank), as rkt has it."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        for pair in part.split("&"):
            key, _, value = pair.partition("=")
            if not pair:
                continue
            key, value = _unescape(key), _unescape(value)
            if key in fields:
                raise ValueError(f"label {key} with multiple values [{quote(fields[key])} {quote(value)}]")
            if key not in ("volume", "target"):
                raise ValueError(f"unknown mount parameter {quote(key)}")
            fields[key] = value
    name = fields.get("volume", "")
    if "volume" in fields:
        try:
            ac_name(name)
        except ValueError as error:
            raise ValueError(f"invalid volume name {quote(name)} in --mount flag {quote(text)}: {error}") from None
    return Mount(volume=name, path=fields.get("target", ""))


def port(text: str) -> ExposedPort:
    """`NAME:[IP:]PORT`."""
    parts = text.split(":", 2)
    if len(parts) < 2:
        raise ValueError(f"{quote(text)} is not in name:[ip:]port format")
    try:
        name = ac_name(parts[0])
    except ValueError:
        raise ValueError(f"{quote(parts[0])} is not a valid port name") from None
    address = None
    if len(parts) == 3:
        address = ip_address(parts[1])
        if address is None:
            raise ValueError(f"{quote(parts[1])} is not a valid IP")
    number = parts[-1]
    if not number.isascii() or not number.isdigit() or int(number) > 65535:
        raise ValueError(f"{quote(parts[1])} is not a valid port number")
    return ExposedPort(name=name, host_port=int(number), host_ip=address)


def networks(text: str, given: Mapping[str, str]) -> dict[str, str]:
    """`NAME[:ARGUMENTS],…` added to the networks that were given before."""
    found = dict(given)
    for part in text.split(","):
        name, *arguments = part.split(":")
        if not name:
            raise ValueError("netname must not be empty")
        if name in found:
            raise ValueError(f"found duplicate netname {quote(name)}")
        if len(arguments) > 1:
            raise ValueError(f"network {quote(name)} provided with invalid arguments: [{' '.join(arguments)}]")
        if arguments and name in ("all", "host"):
            raise ValueError(f"arguments are not supported by special netname {quote(name)}")
        found[name] = arguments[0] if arguments else ""
    return found


def key_and_value(flag: str, text: str) -> tuple[str, str]:
    """`NAME=VALUE` of the per-app flags."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid format of --{flag} flag {quote(text)}")
    return key, value


def environment_file(path: str, given: Mapping[str, str]) -> dict[str, str]:
    """Lines `NAME=VALUE`, with comments after `#` and `;`, added to those of files before. Raises OSError, too."""
    found = dict(given)
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            line = line.rstrip("\n").removesuffix("\r")
            if not line or line[0] in "#;":
                continue
            name, equals, value = line.partition("=")
            if not equals or not name:
                raise ValueError(f"environment variable must be specified as name=value (file {quote(path)})")
            if name in found:
                raise ValueError(f"environment variable {quote(name)} already set (file {quote(path)})")
            found[name] = value
    return found


def ip_address(text: str) -> str | None:
    """An IPv4 or IPv6 address in canonical spelling; None for what is none."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _unescape(text: str) -> str:
    """Decode a part of a URL's query."""
    if ";" in text:
        raise ValueError("invalid semicolon separator in query")
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    first, *parts = text.split("%")
    octets = bytearray(first.encode("utf-8", "surrogateescape"))
    for part in parts:
        try:
            octets += bytes.fromhex(part[:2]) if len(part[:2].strip()) == 2 else _bad_escape(part)
        except ValueError:
            _bad_escape(part)
        octets += part[2:].encode("utf-8", "surrogateescape")
    return octets.decode("utf-8", "surrogateescape")


def _bad_escape(part: str) -> bytes:
    raise ValueError(f'invalid URL escape "%{part[:2]}"')
