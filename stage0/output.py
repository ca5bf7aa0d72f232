"""What the commands print, in rkt's form: `prefix: message: innermost cause`, all causes with --debug (contract section 6)."""

from __future__ import annotations

import sys

from appc.errors import UserError


class Failure(UserError):
    """A command that gives up: `message` is printed before the causes that are chained to it with `raise … from`."""


class Quit(Exception):
    """A command that gives up and has said why already."""

    def __init__(self, status: int = 254) -> None:
        super().__init__(status)
        self.status = status


class Log:
    """The lines of one command: to standard error under a prefix, to standard output without."""

    def __init__(self, prefix: str, *, debug: bool = False) -> None:
        self.prefix = prefix
        self.debug = debug

    def say(self, message: str) -> None:
        """A line on standard error."""
        sys.stdout.flush()
        sys.stderr.write(f"{self.prefix}: {message}\n" if not message.endswith("\n") else f"{self.prefix}: {message}")
        sys.stderr.flush()

    def error(self, message: str, cause: BaseException | None) -> None:
        """A message and why: the innermost cause, or with --debug each on a line of its own."""
        self.say(with_causes(message, cause, debug=self.debug))

    def failure(self, error: BaseException) -> None:
        """An error that ends the command. A Failure is its own message; of any other only the causes are told."""
        if isinstance(error, Failure):
            self.error(str(error), error.__cause__)
        else:
            self.error("", error)

    def diagnostic(self, message: str, prefix: str = "stage0") -> None:
        """A line that only --debug shows."""
        if self.debug:
            Log(prefix).say(message)


def out(text: str) -> None:
    """A line on standard output; a missing final newline is added."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def with_causes(message: str, cause: BaseException | None, *, debug: bool) -> str:
    """The message with its cause in one line, or with --debug with all causes as a tree."""
    causes = []
    while cause is not None:
        causes.append(describe(cause))
        cause = cause.__cause__
    if not causes:
        return message
    if debug:
        return message + "".join(f"\n{'  ' * depth}└─{text}" for depth, text in enumerate(causes, 1))
    return f"{message}: {causes[-1]}" if message else causes[-1]


def describe(error: BaseException) -> str:
    """An error's own words, without its causes; for errors of the system in Go's form (`open /etc/x: no such file or directory`)."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    reason = error.strerror
    reason = reason[:1].lower() + reason[1:]
    if error.filename is None:
        return reason
    name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else str(error.filename)
    if error.filename2 is not None:
        return f"rename {name} {error.filename2}: {reason}"
    operation, colon, text = error.strerror.partition(": ")
    return f"{operation} {name}: {text[:1].lower() + text[1:]}" if colon else f"open {name}: {reason}"


def quote(text: str) -> str:
    """A string as Go's %q writes it."""
    named = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    parts = []
    for character in text:
        code = ord(character)
        if character in named:
            parts.append(named[character])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python carries it
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            parts.append(character)
        elif code < 0x80:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'
