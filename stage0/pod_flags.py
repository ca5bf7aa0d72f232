"""The flags of `run`, `prepare` and `run-prepared` that concern the whole pod, and the checks between them (contract section 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.errors import UserError

from . import flag_values
from .app_flags import AppFlags
from .dns import Names, parse_names
from .flags import Flag
from .output import Failure, quote
from .request import PodRequest
from .stage1_image import Stage1Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from appc.pod import ExposedPort

    from .flags import FlagSet

_STAGE1_FLAGS = {
    "stage1-url": "URL to an image to use as stage1",
    "stage1-path": "absolute or relative path to an image to use as stage1",
    "stage1-name": "name of an image to use as stage1",
    "stage1-hash": "hash of an image to use as stage1",
    "stage1-from-dir": "filename of an image in stage1 images directory to use as stage1",
}


class PodFlags:
    """Gathers the images with their flags and the pod's flags of these kinds while the command line is read."""

    def __init__(self) -> None:
        self.apps = AppFlags()
        self.ports: list[ExposedPort] = []
        self.networks: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.environment_file: dict[str, str] = {}
        self.stage1 = Stage1Choice()

    def declare_preparation(self, flags: FlagSet) -> None:
        """What `run` and `prepare` share."""
        for name, usage in _STAGE1_FLAGS.items():
            flags.add(Flag(name=name, accept=self._stage1(name), usage=usage))
        usage = "ports to expose on the host (requires contained network). Syntax: --port=NAME:[HOSTIP:]HOSTPORT"
        flags.add(Flag(name="port", accept=lambda text: self.ports.append(flag_values.port(text)), usage=usage))
        flags.boolean("inherit-env", "inherit all environment variables not set by apps")
        flags.boolean("no-overlay", "disable overlay filesystem")
        flags.boolean("private-users", "run within user namespaces.")
        usage = "environment variable to set for all the apps in the form key=value, this will be overridden by --environment"
        flags.add(Flag(name="set-env", accept=self._set_environment, usage=usage))
        flags.add(Flag(name="set-env-file", accept=self._set_environment_file, usage="path to an environment variables file"))
        never = "use only available images in the store (do not discover or download from remote URLs)"
        flags.boolean("store-only", never, deprecated="please use --pull-policy=never")
        flags.boolean("no-store", "fetch images ignoring the local store", deprecated="please use --pull-policy=update")
        flags.text("pull-policy", "when to pull an image", "new")
        usage = "the path to the pod manifest. If it's non-empty, then only '--net', '--no-overlay' and '--interactive' will have effect"
        flags.text("pod-manifest", usage)
        self.apps.declare(flags)

    def declare_running(self, flags: FlagSet) -> None:
        """What `run` and `run-prepared` share."""
        usage = (
            "configure the pod's networking. Optionally, pass a list of user-configured networks to load and set arguments to pass to "
            "each network, respectively. Syntax: --net[=n[:args], ...]"
        )
        flags.add(Flag(name="net", accept=self._set_networks, usage=usage, bare="default"))
        servers = "name servers to write in /etc/resolv.conf. Pass 'host' to use host's resolv.conf. Pass 'none' to ignore CNI DNS config"
        flags.texts("dns", servers)
        flags.texts("dns-search", "DNS search domains to write in /etc/resolv.conf")
        flags.texts("dns-opt", "DNS options to write in /etc/resolv.conf")
        flags.text("dns-domain", "DNS domain to write in /etc/resolv.conf")
        flags.texts("hosts-entry", "Entries to add to the pod-wide /etc/hosts. Pass 'host' to use the host's /etc/hosts")
        flags.boolean("interactive", "run pod interactively. If true, only one image may be supplied.")
        flags.boolean("mds-register", "register pod with metadata service. needs network connectivity to the host")
        flags.text("hostname", 'pod\'s hostname. If empty, it will be "rkt-$PODUUID"')
        flags.text("ipc", "whether to stay in the host IPC namespace. Syntax: --ipc=[auto|private|parent]")

    def _stage1(self, flag: str) -> Callable[[str], None]:
        def accept(text: str) -> None:
            if self.stage1.kind == flag:
                raise ValueError(f"--{flag} already used")
            if self.stage1.kind:
                raise ValueError(f"flags --{flag} and --{self.stage1.kind} are mutually exclusive")
            self.stage1 = Stage1Choice(kind=flag, location=text)

        return accept

    def _set_networks(self, text: str) -> None:
        self.networks = flag_values.networks(text, self.networks)

    def _set_environment(self, text: str) -> None:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError("must be specified as key=value")
        if name in self.environment:
            raise ValueError(f"key {quote(name)} already set")
        self.environment[name] = value

    def _set_environment_file(self, path: str) -> None:
        self.environment_file = flag_values.environment_file(path, self.environment_file)

    def names(self, flags: FlagSet) -> Names:
        """The DNS flags. Raises Failure."""
        try:
            return parse_names(
                flags.value("dns"), flags.value("dns-search"), flags.value("dns-opt"), flags.value("dns-domain"), flags.value("hosts-entry")
            )
        except UserError as error:
            raise Failure("error with dns flags") from error

    def request(self, flags: FlagSet, arguments: list[str]) -> PodRequest:
        """Read the images with their flags out of what is left of the command line, and check all together. Raises UserError."""
        try:
            self.apps.parse(arguments, flags)
        except UserError as error:
            raise Failure("error parsing app image arguments") from error
        request = PodRequest(
            apps=tuple(self.apps.apps),
            mounts=tuple(self.apps.mounts),
            volumes=tuple(self.apps.volumes),
            ports=tuple(self.ports),
            inherit_environment=flags.value("inherit-env"),
            environment_file=self.environment_file,
            environment=self.environment,
            pod_manifest=flags.value("pod-manifest"),
            no_overlay=flags.value("no-overlay"),
            pull_policy=_pull_policy(flags),
        )
        if flags.value("private-users"):
            raise UserError(
                "--private-users is not supported by this launcher", hint="run the pod without user namespaces, or with rkt itself"
            )
        self._check_networks(request)
        if request.pod_manifest and _conflicts_with_manifest(request):
            raise UserError("conflicting flags set with --pod-manifest (see --help)")
        return request

    def _check_networks(self, request: PodRequest) -> None:
        for network in ("none", "host"):
            if request.ports and network in self.networks:
                raise UserError(f"--port flag does not work with '{network}' networking")


def check_count(request: PodRequest, *, interactive: bool) -> None:
    """Refuse a pod without apps, and an interactive one with several. Raises UserError."""
    if interactive and len(request.apps) > 1:
        raise UserError("interactive option only supports one image")
    if not request.apps and not request.pod_manifest:
        raise UserError("must provide at least one image or specify the pod manifest")


def refuse_metadata_service(flags: FlagSet) -> None:
    """Raises UserError for --mds-register."""
    if flags.value("mds-register"):
        raise UserError("--mds-register is not supported by this launcher: it has no metadata service")


def _pull_policy(flags: FlagSet) -> str:
    if flags.value("store-only") and flags.value("no-store"):
        raise UserError("both --store-only and --no-store specified")
    if flags.value("store-only"):
        return "never"
    return "update" if flags.value("no-store") else str(flags.value("pull-policy"))


def _conflicts_with_manifest(request: PodRequest) -> bool:
    given = (request.apps, request.volumes, request.mounts, request.ports, request.inherit_environment)
    return any((*given, request.environment, request.environment_file, request.pull_policy in ("never", "update")))
