"""Packages of a Debian suite and all they depend on, by apt in a root of its own: apt checks the signatures, nothing is installed.

The mirror is the one that this machine's apt is configured with, its suite replaced by the one asked for; so a local mirror or a
proxy of the machine is used for the images too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from appc.errors import UserError
from linux.process import ProgramError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aci_build.progress import Progress

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FRESH = 3600.0  # seconds for which apt's lists are not asked for again
_ROLLING = ("sid", "unstable", "experimental", "rc-buggy")  # suites without -updates and -security
_PLANNED = re.compile(r"^'\S+' ([^_\s]+)_([^_\s]+)_\S+\.deb ", re.MULTILINE)  # a line of --print-uris: address, file name, size, hash


@dataclass(frozen=True, kw_only=True)
class Package:
    """One binary package as the suite's signed index describes it; sha256 is of the .deb."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """What goes into sources.list, one entry a line, without the type and the options."""

    entries: tuple[str, ...]


def machine_mirror(suite: str) -> Mirror:
    """This machine's Debian mirrors with their suite replaced. Raises UserError if apt knows none."""
    codename = _machine_codename()
    stanzas = _stanzas(run(["apt-get", "indextargets", "Created-By: Packages"], capture=True, env=_environment()).stdout)
    entries: dict[str, None] = {}
    for stanza in stanzas:
        release = stanza.get("Codename") or stanza.get("Release", "")
        base, _, pocket = release.partition("-")
        if base != codename or pocket not in ("", "updates", "security") or stanza.get("Origin", "Debian") != "Debian":
            continue
        if stanza.get("Component") == "main" and (not pocket or suite not in _ROLLING):
            entries[f"{stanza['Repo-URI']} {suite}{'-' + pocket if pocket else ''} main"] = None
    if not entries:
        raise UserError(
            f"this machine's apt has no Debian mirror for {codename or 'its release'} to take {suite} from",
            hint="name one with --mirror URI",
        )
    return Mirror(entries=tuple(entries))


def _machine_codename() -> str:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), "")


class Suite:
    """A suite as apt sees it through a private root in the cache: configuration, lists and an empty list of what is installed."""

    def __init__(self, name: str, mirror: Mirror, keyring: Path, cache: Path, progress: Progress) -> None:
        if not keyring.is_file():
            raise UserError(
                f"keyring {keyring} does not exist", hint="install the package debian-archive-keyring, or name one with --keyring"
            )
        self.name = name
        self.cache = cache
        self.progress = progress
        sources = "".join(f"deb [signed-by={keyring}] {entry}\n" for entry in mirror.entries)
        self.root = cache / "apt" / f"{name}-{hashlib.sha256(sources.encode()).hexdigest()[:16]}"
        for directory in (self.root / "lists/partial", self.root / "archives/partial", cache / "debs"):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        (self.root / "sources.list").write_text(sources, encoding="utf-8")
        (self.root / "apt.conf").write_text(self._configuration(), encoding="utf-8")

    def _configuration(self) -> str:
        """Read after the machine's own configuration, whose proxies count and whose hooks and pins do not."""
        settings = {
            "Dir::State": str(self.root),
            "Dir::State::lists": str(self.root / "lists"),
            "Dir::State::status": str(self.root / "status"),
            "Dir::Cache": str(self.root),
            "Dir::Cache::archives": str(self.root / "archives"),
            "Dir::Cache::pkgcache": "pkgcache.bin",  # container images turn them off, and each call then parses the whole index
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Dir::Etc::sourcelist": str(self.root / "sources.list"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Install-Recommends": "false",
            "APT::Install-Suggests": "false",
            "APT::Default-Release": "",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Languages": "none",
        }
        if os.geteuid() == 0:
            settings["APT::Sandbox::User"] = "root"  # apt's own user cannot write into a cache below a home directory
        hooks = "".join(
            f"#clear {name};\n" for name in ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
        )
        return hooks + "".join(f'{name} "{value}";\n' for name, value in settings.items())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time uses this root; others wait."""
        with open(self.root / "lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.step("waiting for another build that uses the same suite")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def update(self, *, offline: bool, force: bool = False) -> None:
        """Fetches the signed lists, unless they are less than an hour old."""
        stamp = self.root / "updated"
        age = time.time() - stamp.stat().st_mtime if stamp.exists() else None
        if offline:
            if age is None:
                raise UserError(f"suite {self.name} was never fetched", hint="build once without --offline")
            return
        if age is None or not 0 <= age < _FRESH or force:
            self.progress.step(f"fetching the package lists of {self.name}")
            try:
                self._apt("apt-get", "-o", "APT::Update::Error-Mode=any", "update")
            except ProgramError as error:
                raise UserError(f"cannot fetch the package lists of suite {self.name}: {_apt_errors(error)}") from None
            stamp.touch()

    def closure(self, required: Sequence[str], optional: Sequence[str]) -> dict[str, Package]:
        """The packages and all they depend on, by name. Optional ones are left out where the suite lacks them."""
        known = {package.name for package in self._show([*required, *optional])}
        missing = [name for name in required if name not in known]
        if missing:
            raise UserError(
                f"suite {self.name} has no package {', '.join(missing)}",
                hint="check source.packages of the recipe, or choose another --suite",
            )
        for name in optional:
            if name not in known:
                self.progress.detail(f"{self.name} has no {name}; it is optional")
        try:
            # Faster than --simulate, which also works out in which order dpkg would have to unpack.
            available = [name for name in optional if name in known]
            plan = self._apt("apt-get", "--print-uris", "--yes", "install", *required, *available)
        except ProgramError as error:
            raise UserError(f"suite {self.name} cannot satisfy what {', '.join(required)} depend on: {_apt_errors(error)}") from None
        chosen = [f"{name}={unquote(version)}" for name, version in _PLANNED.findall(plan)]
        return {package.name: package for package in sorted(self._show(chosen), key=lambda package: package.name)}

    def fetch(self, packages: Iterable[Package], *, offline: bool) -> dict[str, Path]:
        """Downloads what the cache lacks; returns where each .deb is, by package name.

        The cache is keyed by content, and what it has is checked on every use.
        """
        paths = {package.name: (package, self.cache / "debs" / f"{package.sha256}.deb") for package in packages}
        missing = [package for package, path in paths.values() if not path.exists() or _sha256(path) != package.sha256]
        if missing and offline:
            raise UserError(f"not in the cache: {', '.join(package.name for package in missing)}", hint="build once without --offline")
        if missing:
            size = sum(package.size for package in missing) / 1e6
            self.progress.step(f"downloading {len(missing)} of {len(paths)} packages, {size:.0f} MB")
            try:
                self._download(missing)
            except ProgramError:
                self.update(offline=False, force=True)  # the mirror may have moved on since the lists were fetched
                self._download(missing)
        return {name: path for name, (_, path) in paths.items()}

    def _download(self, packages: Sequence[Package]) -> None:
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="download-") as scratch:
            self._apt("apt-get", "download", *(f"{package.name}={package.version}" for package in packages), cwd=scratch)
            arrived = {_sha256(path): path for path in Path(scratch).glob("*.deb")}
            for package in packages:
                if package.sha256 not in arrived:
                    raise UserError(
                        f"{package.name} {package.version} from the mirror does not have the sha256 that the suite's index says"
                    )
                os.replace(arrived[package.sha256], self.cache / "debs" / f"{package.sha256}.deb")

    def _show(self, names: Sequence[str]) -> list[Package]:
        """The index's entries; names that it does not have are absent."""
        said = self._apt("apt-cache", "--no-all-versions", "show", *names, check=False)
        return [
            Package(
                name=stanza["Package"],
                version=stanza["Version"],
                architecture=stanza["Architecture"],
                sha256=stanza["SHA256"],
                size=int(stanza["Size"]),
            )
            for stanza in _stanzas(said)
            if "SHA256" in stanza
        ]

    def _apt(self, program: str, *arguments: str, check: bool = True, cwd: str | None = None) -> str:
        argv = [program, "-c", str(self.root / "apt.conf"), *arguments]
        return run(argv, check=check, capture=True, cwd=cwd, env=_environment()).stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _stanzas(text: str) -> list[dict[str, str]]:
    """Debian control data: one dictionary a paragraph; continuation lines are dropped, none of ours has any."""
    found = []
    for paragraph in text.split("\n\n"):
        fields = (line.partition(": ") for line in paragraph.splitlines() if line[:1].strip())
        found.append({name: value.strip() for name, colon, value in fields if colon})
    return [stanza for stanza in found if stanza]


def _apt_errors(error: ProgramError) -> str:
    """apt's own error lines, without its progress."""
    lines = [line[3:] for line in error.message.splitlines() if line.startswith("E: ")]
    return "; ".join(lines) or error.message


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
