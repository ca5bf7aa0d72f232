"""Manifests as JSON documents, read and written in Go's manners.

Reading: unknown keys are ignored, null is absence, keys match whatever their case. Every problem is collected with its path in the
document; values of the wrong type are replaced by empty ones so that the rest is still checked. Writing: what Go's json.Marshal writes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from appc.errors import ManifestError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

Value = TypeVar("Value")

_INT_LIMIT = 2**63
_HTML_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_ESCAPE = re.compile(r"\\.")
_SURROGATE = re.compile("[\ud800-\udfff]")


def load(text: str | bytes, document: str) -> tuple[Json, list[Problem]]:
    """Parses JSON. Raises ManifestError for what is no JSON; lone surrogates are returned as problems."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = cast("Json", json.loads(decoded, parse_constant=_refuse_constant))
    except UnicodeDecodeError as error:
        raise ManifestError(document, [Problem("", f"not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        raise ManifestError(document, [Problem("", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]) from None
    except ValueError as error:
        raise ManifestError(document, [Problem("", f"not JSON: {error}")]) from None
    except RecursionError:
        raise ManifestError(document, [Problem("", "nested too deeply")]) from None
    problems: list[Problem] = []
    # A surrogate comes out of an escape, or was in the text already; most documents have neither and are not walked.
    if "\\ud" in decoded or "\\uD" in decoded or _SURROGATE.search(decoded):
        try:
            _find_surrogates(value, "", problems)
        except RecursionError:
            raise ManifestError(document, [Problem("", "nested too deeply")]) from None
    return value, problems


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _find_surrogates(value: Json, path: str, problems: list[Problem]) -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value):
            problems.append(Problem(path, "contains half a surrogate pair, which is no character"))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_surrogates(item, f"{path}[{index}]", problems)
    elif isinstance(value, dict):
        for key, item in value.items():
            if _SURROGATE.search(key):
                problems.append(Problem(path, "has a key that contains half a surrogate pair"))
            else:
                _find_surrogates(item, f"{path}.{key}" if path else key, problems)


def dump(value: Mapping[str, object], *, indent: str | None = None) -> str:
    """JSON escaped as Go escapes it: without blanks, or each member on a line of its own, indented."""
    separators = (",", ": " if indent else ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, allow_nan=False).translate(_HTML_ESCAPES)
    if "\\b" in text or "\\f" in text:
        text = _ESCAPE.sub(_go_escape, text)
    return text


def _go_escape(match: re.Match[str]) -> str:
    return {"\\b": "\\u0008", "\\f": "\\u000c"}.get(match[0], match[0])


def type_name(value: object) -> str:
    """JSON's word for the type of a parsed value, for messages."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "null")


def keyed(names: Iterable[str]) -> dict[str, str]:
    """The table that finds a field by its key in any case."""
    return {name.lower(): name for name in names}


class Fields:
    """One JSON object of a document, read field by field. What is missing or wrong becomes a problem and an empty value."""

    __slots__ = ("path", "problems", "values")

    def __init__(self, value: Json, path: str, problems: list[Problem], known: Mapping[str, str]) -> None:
        self.path = path
        self.problems = problems
        self.values: dict[str, Json] = {}
        if isinstance(value, dict):
            for key, item in value.items():
                name = known.get(key) or known.get(key.lower())
                if name is not None and item is not None and (name == key or name not in value):
                    self.values[name] = item
        else:
            problems.append(Problem(path, f"must be an object, not {type_name(value)}"))

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def problem(self, name: str, message: str) -> None:
        self.problems.append(Problem(self.at(name) if name else self.path, message))

    def string(
        self, name: str, *, required: bool = False, check: Callable[[str], bool] | None = None, expected: str = "", executed: bool = False
    ) -> str:
        """The empty string where absent. `executed`: goes to execve or a path of the kernel's, so NUL is refused."""
        value = self.values.get(name)
        if value is None:
            if required:
                self.problem(name, "is required")
            return ""
        if not isinstance(value, str):
            self.problem(name, f"must be a string, not {type_name(value)}")
            return ""
        if required and not value:
            self.problem(name, "must not be empty")
        elif check is not None and not check(value):
            self.problem(name, f"{_quoted(value)} is not {expected}")
        elif executed and "\0" in value:
            self.problem(name, "contains a NUL character")
        return value

    def optional_string(self, name: str, **rules: Callable[[str], bool] | str) -> str | None:
        if self.values.get(name) is None:
            return None
        return self.string(name, **rules)  # type: ignore[arg-type]

    def boolean(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.problem(name, f"must be true or false, not {type_name(value)}")
        return None

    def integer(self, name: str, *, required: bool = False, low: int = -_INT_LIMIT, high: int = _INT_LIMIT - 1) -> int | None:
        value = self.values.get(name)
        if value is None:
            if required:
                self.problem(name, "is required")
            return None
        return _integer(value, self.at(name), self.problems, low, high)

    def integers(self, name: str) -> tuple[int, ...]:
        found = (_integer(item, path, self.problems, -_INT_LIMIT, _INT_LIMIT - 1) for path, item in self._items(name))
        return tuple(number for number in found if number is not None)

    def strings(self, name: str) -> tuple[str, ...]:
        """An array of strings that go to execve or name paths: NUL is refused."""
        found = []
        for path, item in self._items(name):
            if not isinstance(item, str):
                self.problems.append(Problem(path, f"must be a string, not {type_name(item)}"))
            elif "\0" in item:
                self.problems.append(Problem(path, "contains a NUL character"))
            else:
                found.append(item)
        return tuple(found)

    def array(self, name: str, parse: Callable[[Json, str, list[Problem]], Value]) -> tuple[Value, ...]:
        return tuple([parse(item, path, self.problems) for path, item in self._items(name)])

    def string_map(self, name: str) -> dict[str, str]:
        value = self.values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(name, f"must be an object, not {type_name(value)}")
            return {}
        strings = {}
        for key, item in value.items():
            if item is None or isinstance(item, str):
                strings[key] = item or ""
            else:
                self.problem(f"{name}.{key}", f"must be a string, not {type_name(item)}")
        return strings

    def object(self, name: str, parse: Callable[[Json, str, list[Problem]], Value]) -> Value | None:
        value = self.values.get(name)
        return None if value is None else parse(value, self.at(name), self.problems)

    def unique(self, name: str, keys: Iterable[str], what: str) -> None:
        """Every second and later use of a key among an array's items is a problem."""
        seen: set[str] = set()
        for index, key in enumerate(keys):
            if key in seen:
                self.problem(f"{name}[{index}].name", f"duplicate {what} {_quoted(key)}")
            seen.add(key)

    def _items(self, name: str) -> Iterable[tuple[str, Json]]:
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.problem(name, f"must be an array, not {type_name(value)}")
            return ()
        path = self.at(name)
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def _integer(value: Json, path: str, problems: list[Problem], low: int, high: int) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        kind = "a number with a fraction" if isinstance(value, float) else type_name(value)
        problems.append(Problem(path, f"must be a whole number, not {kind}"))
        return None
    if not low <= value <= high:
        problems.append(Problem(path, f"must be between {low} and {high}"))
        return None
    return value


def _quoted(text: str) -> str:
    """A value for a message: short, on one line."""
    return json.dumps(text if len(text) <= 80 else text[:77] + "...", ensure_ascii=False)
