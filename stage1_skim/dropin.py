"""The systemd drop-in that an image or an app's entry carries in an annotation: one text, systemd's own syntax, checked before use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import annotations as names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage1_skim.pod import PodApp

_SECTIONS = ("Unit", "Service")
_BLANKS = " \t\n\r"  # what systemd strips; Python's own idea of a blank is wider

# What the manifest's own fields say, or what holds the pod together: a drop-in that set these would make the manifest a lie.
_OURS = {
    "Service": frozenset(
        (
            "DynamicUser",
            "EnvironmentFile",
            "ExecStart",
            "Group",
            "RootDirectory",
            "RootImage",
            "Slice",
            "StandardError",
            "StandardInput",
            "StandardOutput",
            "SupplementaryGroups",
            "User",
            "WorkingDirectory",
        )
    ),
    "Unit": frozenset(("BindsTo", "CollectMode", "DefaultDependencies", "PartOf", "StopWhenUnneeded")),
}


def check(text: str, where: str) -> str:
    """The text, ending in a newline. Raises UserError naming `where` it came from and the line that cannot be."""
    _refuse_oddities(text, where)
    section = ""
    for number, line in logical_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            if section not in _SECTIONS:
                raise _error(where, number, f"section [{section}] is not one of [{'], ['.join(_SECTIONS)}]")
            continue
        name, equals, _ = line.partition("=")
        name = name.rstrip(_BLANKS)
        if not equals or not name.isascii() or not name.isalnum():
            raise _error(where, number, f"{line!r} is neither a section nor a setting")
        if not section:
            raise _error(where, number, f"{name}= stands before any section")
        if name in _OURS[section]:
            raise _error(where, number, f"{name}= is set by the manifest's own fields")
    return text if text.endswith("\n") else text + "\n"


def _refuse_oddities(text: str, where: str) -> None:
    """What else would end a line for systemd, or mean nothing to it, is refused rather than imitated."""
    for number, line in enumerate(text.split("\n"), 1):
        odd = next((character for character in line if (character < " " and character != "\t") or "\ud800" <= character <= "\udfff"), "")
        if odd:
            raise _error(where, number, f"{odd!r} cannot be in a unit")
    if _is_continued(text.rstrip("\n")):
        raise _error(where, len(text.rstrip("\n").split("\n")), "the last line is to be continued")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Settings and section headers with the numbers of their first lines, put together and stripped as systemd does it.

    A comment does not end a continuation (config_parse in systemd's conf-parser.c).
    """
    begun, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if _is_comment(line):
            continue
        first = first if begun else number
        begun += line
        if _is_continued(line):
            begun = begun[:-1] + " "
            continue
        if whole := begun.strip(_BLANKS):
            yield first, whole
        begun = ""
    if whole := begun.strip(_BLANKS):
        yield first, whole


def _is_comment(line: str) -> bool:
    return line.lstrip(_BLANKS).startswith(("#", ";"))


def _is_continued(line: str) -> bool:
    """A backslash at the very end, with none before it that makes it a letter like any other."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def service_setting(app: PodApp, name: str) -> str:
    """The value that counts of a setting of [Service] that has one value: the entry's before the image's, "" for systemd's default."""
    value = section = ""
    for text in (app.image.annotation(names.SKIM_UNIT), app.entry.annotation(names.SKIM_UNIT)):
        for _, line in logical_lines(text or ""):
            key, equals, word = line.partition("=")
            if not equals:
                section = line.strip("[]")
            elif section == "Service" and key.rstrip(_BLANKS) == name:
                value = word.strip(_BLANKS)
    return value


def _error(where: str, number: int, what: str) -> UserError:
    return UserError(f"{where}, line {number} of its unit drop-in: {what}")
