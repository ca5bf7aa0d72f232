"""Text for unit files and environment files in which every byte arrives unchanged (systemd.syntax(7), systemd.exec(5))."""

from __future__ import annotations

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%"}
_BLANKS = {ord("\t"): None, ord("\n"): None}


def exec_word(word: str) -> str:
    """One word of an `ExecStart=:` line. The colon there turns variables off, so only specifiers and quoting are left to escape."""
    return '"' + "".join(_escaped(char) for char in word) + '"'


def setting(value: str) -> str:
    """The value of a setting that is read as it stands but for specifiers, such as WorkingDirectory=."""
    return value.replace("%", "%%")


def is_plain_setting(value: str) -> bool:
    """Whether `setting` can carry it: no line ends, no blanks at its ends, no other control characters."""
    return value == value.strip() and value.isprintable() and not value.endswith("\\")


def description(text: str) -> str:
    """Free text for people; line ends and control characters become blanks."""
    return setting("".join(char if char.isprintable() else " " for char in text).strip().rstrip("\\"))


def environment_assignment(name: str, value: str) -> str:
    """One line of an EnvironmentFile=: within double quotes only these four are special, and a newline is itself."""
    for special in ("\\", '"', "`", "$"):
        value = value.replace(special, "\\" + special)
    return f'{name}="{value}"\n'


def is_plain_assignment(name: str, value: str) -> bool:
    """Whether systemd takes it from an EnvironmentFile=: not names with `.` or `-`, nor values with control characters."""
    return name.replace("_", "a").isalnum() and name.isascii() and is_text(value) and not any(map(_is_control, value.translate(_BLANKS)))


def is_plain_program(path: str) -> bool:
    """Whether systemd takes it as the program of an Exec line: no quotes, backslashes or control characters, however they are escaped."""
    return is_text(path) and not any(char in "\"'\\" or _is_control(char) for char in path)


def is_text(value: str) -> bool:
    """Whether it is free of the code points that are no characters (Unicode, section 23.7): systemd refuses whole lines for them."""
    return value.isascii() or not any(0xFDD0 <= ord(char) <= 0xFDEF or ord(char) & 0xFFFE == 0xFFFE for char in value)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if _is_control(char):
        return f"\\x{ord(char):02x}"
    return char


def _is_control(char: str) -> bool:
    return char < " " or char == "\x7f"
