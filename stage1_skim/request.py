"""What `run` was asked by its flags and environment, beside the pod itself (contract section 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from poddir import annotations as names
from stage1_skim import sockets
from stage1_skim.arguments import BOOLEAN, STRING
from stage1_skim.cgroups import control_groups
from stage1_skim.limits import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stage1_skim.arguments import Arguments
    from stage1_skim.host_unit import HostUnit
    from stage1_skim.pod import Pod

# Every flag of interface versions 1 to 6: those of a version that we do not claim are taken as well.
FLAGS = {
    "debug": BOOLEAN,
    "net": STRING,
    "interactive": BOOLEAN,
    "private-users": STRING,
    "mds-token": STRING,
    "local-config": STRING,
    "hostname": STRING,
    "dns-conf-mode": STRING,
    "disable-capabilities-restriction": BOOLEAN,
    "disable-paths": BOOLEAN,
    "disable-seccomp": BOOLEAN,
    "mutable": BOOLEAN,
    "ipc": STRING,
}

_METADATA_PORT = 18112


class Request(NamedTuple):
    """`inherited` is the environment that stage0 gave to `run`; `metadata_url` is empty where no metadata service is asked for."""

    inherited: Mapping[str, str]
    rules: Rules
    metadata_url: str = ""
    sockets: tuple[sockets.InheritedSocket, ...] = ()
    host_units: Mapping[str, HostUnit] = {}


def read_request(given: Arguments, environment: Mapping[str, str], pod: Pod) -> Request:
    token = given.flags.get("mds-token", "")
    return Request(
        inherited=environment,
        rules=Rules(
            groups=control_groups(),
            all_capabilities=given.is_set("disable-capabilities-restriction"),
            all_system_calls=given.is_set("disable-seccomp"),
        ),
        # The pod's network is the host's, and so is the address of the metadata service.
        metadata_url=f"http://127.0.0.1:{_METADATA_PORT}/{token}" if token else "",
        sockets=sockets.inherited_sockets(environment) if any(map(sockets.is_socket_activated, pod.apps)) else (),
        host_units=_host_units(pod),
    )


def _host_units(pod: Pod) -> Mapping[str, HostUnit]:
    if not any(app.entry.annotation(names.SKIM_HOST_UNIT) for app in pod.apps):
        return {}
    from stage1_skim.host_unit import read_host_units
    from stage1_skim.systemd import Manager

    with Manager() as manager:
        return read_host_units(pod, manager)


def refuse(given: Arguments) -> None:
    """Raises UserError for a kind of pod that cannot be had at all."""
    if given.is_set("mutable"):
        raise UserError(
            "mutable pods are not supported by stage1_skim: it has no entrypoints that add, start, stop and remove apps",
            hint="give all apps to `rkt run`",
        )


def unsupported_flags(given: Arguments) -> list[str]:
    """What needs namespaces, and so cannot be honoured, a line each.

    The network is the host's, which is what --net=host asks for; `default` is what stage0 says when nobody asked for anything.
    """
    flags = given.flags
    found = []
    if flags.get("net", "default") not in ("host", "default", ""):
        found.append(f"--net={flags['net']} is not supported by stage1_skim: the pod uses the host's network")
    for name, instead in (
        ("hostname", "the pod uses the host's name"),
        ("private-users", "the pod uses the host's users"),
    ):
        if flags.get(name):
            found.append(f"--{name}={flags[name]} is not supported by stage1_skim: {instead}")
    modes = [item.partition("=")[2] for item in flags.get("dns-conf-mode", "").split(",") if item]
    if any(mode not in ("host", "default") for mode in modes):
        found.append(f"--dns-conf-mode={flags['dns-conf-mode']} is not supported by stage1_skim: it uses the host's resolver")
    if flags.get("ipc", "") not in ("", "parent"):
        found.append(f"--ipc={flags['ipc']} is not supported by stage1_skim: the pod shares the host's IPC namespace")
    return found
