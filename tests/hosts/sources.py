"""Which Debian mirror this machine uses, and how: read from its apt configuration, so that no host name is written down here."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CODENAMES = ("bullseye", "bookworm", "trixie", "forky", "sid")
_NETWORK_OPTIONS = re.compile(r"Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6)\b")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One archive's suite of a machine's apt sources (sources.list(5))."""

    uri: str
    suite: str
    components: tuple[str, ...]


class NoMirror(Exception):
    """This machine's apt sources name no Debian archive."""


def lines(suite: str, etc: Path = Path("/etc/apt")) -> list[str]:
    """One-line apt sources for `suite` from this machine's mirror, with its updates and security suites if the machine has them.

    $SKIM_DEBIAN_MIRROR, a URI, replaces all of it. Raises NoMirror.
    """
    if override := os.environ.get("SKIM_DEBIAN_MIRROR"):
        return [f"deb {override} {suite} main"]
    found = [source for source in read(etc) if "main" in source.components]
    archives = [source for source in found if source.suite in _CODENAMES]
    if not archives:
        raise NoMirror(f"no Debian archive in {etc}/sources.list*: set SKIM_DEBIAN_MIRROR to the URI of one")
    own = next((source for source in archives if source.suite == suite), archives[0])
    extra = [source for source in found if source.suite in (f"{suite}-updates", f"{suite}-security")]
    return [f"deb {own.uri} {suite} main"] + [f"deb {source.uri} {source.suite} main" for source in extra]


def read(etc: Path) -> list[Source]:
    """Every binary archive that apt would use, from one-line and from deb822 files."""
    found: list[Source] = []
    folder = etc / "sources.list.d"
    for path in [etc / "sources.list", *sorted(folder.glob("*.list"))]:
        if path.is_file():
            found += _one_line(path.read_text())
    for path in sorted(folder.glob("*.sources")):
        found += _deb822(path.read_text())
    return found


def _one_line(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        if match := re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line):
            found.append(Source(uri=match[1], suite=match[2], components=tuple(match[3].split())))
    return found


def _deb822(text: str) -> list[Source]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields.setdefault(name, []).extend(line.split())
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            components = tuple(fields.get("components", []))
            found += [
                Source(uri=uri, suite=suite, components=components) for uri in fields.get("uris", []) for suite in fields.get("suites", [])
            ]
    return found


def apt_options() -> list[str]:
    """What this machine's apt is told about the network (a proxy, retries, a mirror whose dates are frozen), as apt.conf(5) lines."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [line for line in dumped.splitlines() if _NETWORK_OPTIONS.match(line) and not line.endswith('"";')]
