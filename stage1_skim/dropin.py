"""The systemd drop-in that an image or an app's entry carries in an annotation: one text, systemd's own syntax, checked before use."""

from __future__ import annotations

from appc.errors import UserError

_SECTIONS = ("Unit", "Service")

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
    section = ""
    continued = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if continued:
            continued = line.endswith("\\")
            continue
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            if section not in _SECTIONS:
                raise _error(where, number, f"section [{section}] is not one of [{'], ['.join(_SECTIONS)}]")
            continue
        name, equals, _ = line.partition("=")
        name = name.strip()
        if not equals or not name.isascii() or not name.isalnum():
            raise _error(where, number, f"{line!r} is neither a section nor a setting")
        if not section:
            raise _error(where, number, f"{name}= stands before any section")
        if name in _OURS[section]:
            raise _error(where, number, f"{name}= is set by the manifest's own fields")
        continued = line.endswith("\\")
    if continued:
        raise _error(where, len(text.splitlines()), "the last line is to be continued")
    return text if text.endswith("\n") else text + "\n"


def _error(where: str, number: int, what: str) -> UserError:
    return UserError(f"{where}, line {number} of its unit drop-in: {what}")
