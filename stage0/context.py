"""What every command knows: the global flags, read once (contract section 7.1)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from poddir import layout

from .output import Failure, Log, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from .configuration import Configuration
    from .flags import FlagSet

INSECURE_OPTIONS = ("none", "image", "tls", "ondisk", "http", "pubkey", "capabilities", "paths", "seccomp", "all-fetch", "all-run", "all")
_ALL_FETCH = frozenset({"image", "tls", "http", "pubkey"})
_ALL_RUN = frozenset({"capabilities", "paths", "seccomp"})
_WIDER = {"none": frozenset[str](), "ondisk": frozenset[str](), "all-fetch": _ALL_FETCH, "all-run": _ALL_RUN, "all": _ALL_FETCH | _ALL_RUN}


class Context:
    """The global flags of one run of a command; `log` speaks for the command."""

    def __init__(self) -> None:
        self.log = Log("rkt")
        self.insecure: frozenset[str] = frozenset()
        self.system_config = "/usr/lib/rkt"
        self.local_config = "/etc/rkt"
        self.user_config = ""
        self._data_directory_flag = ""
        self._data_directory = ""
        self._configuration: Configuration | None = None

    @property
    def debug(self) -> bool:
        """Whether --debug was given."""
        return self.log.debug

    @property
    def data_directory(self) -> str:
        """The data directory: --dir, else the configuration's, else /var/lib/rkt; links in it are resolved."""
        if not self._data_directory:
            directory = self._data_directory_flag or self.configuration().data_directory or layout.DEFAULT_DATA_DIRECTORY
            self._data_directory = os.path.realpath(directory) if os.path.exists(directory) else directory
        return self._data_directory

    def configuration(self) -> Configuration:
        """The configuration files of the three directories, merged. Raises Failure."""
        if self._configuration is None:
            from appc.errors import UserError

            from .configuration import read_configuration

            try:
                self._configuration = read_configuration([self.system_config, self.local_config, self.user_config])
            except UserError as error:
                raise Failure("cannot get configuration") from error
        return self._configuration

    def declare(self, flags: FlagSet) -> None:
        """Add the global flags to a command's."""
        from .flags import Flag

        def debug(text: str) -> None:
            from .times import parse_boolean

            self.log.debug = parse_boolean(text)

        def insecure(text: str) -> None:
            self.insecure = parse_insecure_options(text)

        def directory(attribute: str) -> Callable[[str], None]:
            return lambda text: setattr(self, attribute, _absolute(text))

        allowed = ", ".join(f'"{option}"' for option in INSECURE_OPTIONS)
        flags.add(Flag(name="debug", accept=debug, usage="print out more debug information to stderr", default="false", bare="true"))
        for name, attribute, usage, default in (
            ("dir", "_data_directory_flag", "rkt data directory", layout.DEFAULT_DATA_DIRECTORY),
            ("system-config", "system_config", "system configuration directory", self.system_config),
            ("local-config", "local_config", "local configuration directory", self.local_config),
            ("user-config", "user_config", "user configuration directory", ""),
        ):
            flags.add(Flag(name=name, accept=directory(attribute), usage=usage, default=default))
        usage = f"comma-separated list of security features to disable. Allowed values: {allowed}"
        flags.add(Flag(name="insecure-options", accept=insecure, usage=usage, default="none"))
        flags.boolean("trust-keys-from-https", "automatically trust gpg keys fetched from https")


def parse_insecure_options(text: str) -> frozenset[str]:
    """The features that --insecure-options switches off, wider names resolved. Raises ValueError."""
    chosen: set[str] = set()
    found: frozenset[str] = frozenset()
    for option in text.lower().split(","):
        if option not in INSECURE_OPTIONS:
            raise ValueError(f"unknown option {quote(option)}")
        if option in chosen:
            raise ValueError(f"duplicated option {quote(option)}")
        chosen.add(option)
        found |= _WIDER.get(option, frozenset({option}))
    return found


def _absolute(text: str) -> str:
    if not text:
        raise ValueError('"" is not a valid directory')
    return os.path.abspath(text)
