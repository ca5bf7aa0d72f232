"""What dockerd is told: daemon.json, and the flags that docker.service gives it."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.doctor.probe import Probe
    from engine.doctor.units import Unit

CONFIGURATION = "/etc/docker/daemon.json"
DEFAULT_DATA_ROOT = "/var/lib/docker"

# Flags whose key in the file has another name. Lists are in the plural there.
_KEYS = {
    "H": "hosts",
    "host": "hosts",
    "D": "debug",
    "l": "log-level",
    "G": "group",
    "p": "pidfile",
    "s": "storage-driver",
    "b": "bridge",
    "g": "data-root",
    "graph": "data-root",
    "label": "labels",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "log-opt": "log-opts",
    "storage-opt": "storage-opts",
    "insecure-registry": "insecure-registries",
    "registry-mirror": "registry-mirrors",
    "default-ulimit": "default-ulimits",
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "default-address-pool": "default-address-pools",
    "node-generic-resource": "node-generic-resources",
    "feature": "features",
}
# Flags without a value of their own; what follows them is another word.
_SWITCHES = frozenset(
    ("D", "allow-direct-routing", "debug", "experimental", "help", "icc", "init", "ip-forward", "ip-masq", "ip6tables", "iptables")
) | frozenset(
    ("ipv6", "live-restore", "no-new-privileges", "raw-logs", "rootless", "selinux-enabled", "tls", "tlsverify", "userland-proxy")
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Settings(NamedTuple):
    """`keys` of the file at `path` ({} without one), `flags` by the key that each would have there.

    `problem` is what keeps the file from being read: a line for people, "" if there is none. `twice` are keys that it has more than once.
    """

    path: str = CONFIGURATION
    present: bool = False
    denied: bool = False
    problem: str = ""
    twice: tuple[str, ...] = ()
    keys: Mapping[str, Any] = {}
    flags: Mapping[str, tuple[str, ...]] = {}
    unknown_words: tuple[str, ...] = ()
    """Words of the command line that are no flags: dockerd takes none."""

    def value(self, key: str, default: str = "") -> str:
        """A setting as text, from wherever it is set."""
        if self.flags.get(key):
            return self.flags[key][-1]
        value = self.keys.get(key)
        if isinstance(value, bool):
            return str(value).lower()
        return value if isinstance(value, str) and value else default

    def is_off(self, key: str) -> bool:
        """Whether a switch that is on by default is off."""
        return self.value(key) == "false"

    def option(self, key: str, name: str) -> tuple[str, str]:
        """The value of `name=value` in a list such as exec-opts, and where it is set; "" and "" if nowhere."""
        listed = self.keys.get(key)
        for values, where in ((self.flags.get(key, ()), "docker.service"), (listed if isinstance(listed, list) else (), self.path)):
            for value in values:
                if isinstance(value, str) and value.startswith(f"{name}="):
                    return value.partition("=")[2], where
        return "", ""

    @property
    def data_root(self) -> str:
        root = self.value("data-root") or self.value("graph") or DEFAULT_DATA_ROOT
        try:
            return DEFAULT_DATA_ROOT if b"\0" in os.fsencode(root) else root
        except UnicodeEncodeError:
            return DEFAULT_DATA_ROOT  # no path at all; the engine itself refuses it


def gather(probe: Probe, unit: Unit) -> Settings:
    flags, rest = parse_flags(_expand(unit.arguments, _environment(probe, unit)))
    path = (flags.pop("config-file", ()) or (CONFIGURATION,))[-1]
    settings = Settings(path=path, flags=flags, unknown_words=tuple(rest))
    text = probe.text(path)
    if text is None:
        denied, present = path in probe.denied, probe.exists(path)
        problem = f"{path} is no file that could be read" if present and not denied else ""
        return settings._replace(denied=denied, present=present or denied, problem=problem)
    problem, keys, twice = parse_configuration(text.removeprefix("\ufeff"), path)
    return settings._replace(present=True, problem=problem, keys=keys, twice=tuple(twice))


def parse_configuration(text: str, path: str) -> tuple[str, dict[str, Any], list[str]]:
    """What is wrong with daemon.json ("" if nothing), its keys, and those that it has twice."""
    twice: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    if not text.strip():
        return "", {}, []
    try:
        document = json.loads(text, object_pairs_hook=collect, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return f"{path}: line {error.lineno}, column {error.colno}: {_reason(error, text)}", {}, []
    except (ValueError, RecursionError) as error:
        return f"{path}: {error}", {}, []
    if not isinstance(document, dict):
        return f"{path}: line 1: not an object: it has to begin with {{", {}, []
    return "", document, twice


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _reason(error: json.JSONDecodeError, text: str) -> str:
    """Python's words, or clearer ones for what people do most."""
    before = text[: error.pos].rstrip()
    if (text[error.pos : error.pos + 1] == "}" and before.endswith(",")) or error.msg.startswith("Illegal trailing comma"):
        return "a comma before }, where nothing follows"
    if text[error.pos : error.pos + 1] in ("#", "/"):
        return "a comment: JSON has none"
    if error.pos >= len(text.rstrip()):
        return "the file ends in the middle"
    return error.msg[:1].lower() + error.msg[1:]


def parse_flags(words: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """dockerd's arguments: values by the key that each has in daemon.json, and the words that are neither flags nor their values."""
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            rest.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and len(name) > 1 and name[0] in _KEYS and name not in _KEYS:  # -Hfd://, -Dl debug
            name, equals, value = name[0], "=", word[2:]
        if not equals:
            value = "true" if name in _SWITCHES or not left else left.pop(0)
        found.setdefault(_KEYS.get(name, name), []).append(value)
    return {key: tuple(values) for key, values in found.items()}, rest


def _expand(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """As systemd does: `$NAME` on its own is split into words, `${NAME}` is one (systemd.service(5))."""
    found: list[str] = []
    for word in words:
        if re.fullmatch(r"\$\w+", word):
            found.extend(_split(environment.get(word[1:], "")))
        else:
            found.append(_VARIABLE.sub(lambda match: environment.get(match[1] or match[2], ""), word))
    return found


def _environment(probe: Probe, unit: Unit) -> dict[str, str]:
    found = dict(word.partition("=")[::2] for word in unit.environment)
    for path in unit.environment_files:
        for line in (probe.text(path) or "").splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith(("#", ";")):
                found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    """A value of an environment file: quotes around all of it go, those inside stay for the words."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()
