"""Ports that are socket activated: systemd listens and hands the descriptors to the app (systemd.socket(5), sd_listen_fds(3))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from stage1_skim import dropin, quoting
from stage1_skim.places import socket_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.app import Port
    from stage1_skim.pod import Pod, PodApp

_LISTEN = {"tcp": "ListenStream", "udp": "ListenDatagram"}
_FIRST_DESCRIPTOR = 3


class InheritedSocket(NamedTuple):
    """A socket that systemd handed to `rkt run`: the unit that it is of, and where it listens."""

    unit: str
    protocol: str
    port: int


class SocketUnit(NamedTuple):
    name: str
    text: str


class AppSockets(NamedTuple):
    """The unit to write, if there is one, and the names of all socket units that the app's service takes its descriptors from."""

    unit: SocketUnit | None
    names: tuple[str, ...]
    warnings: tuple[str, ...]


def is_socket_activated(app: PodApp) -> bool:
    return any(port.socket_activated for port in app.app.ports)


def may_restart(app: PodApp) -> bool:
    """Whether the app's drop-ins make systemd start it again after some end."""
    return dropin.service_setting(app, "Restart") not in ("", "no")


def app_sockets(pod: Pod, app: PodApp, inherited: tuple[InheritedSocket, ...]) -> AppSockets:
    """A socket that `rkt run` was itself activated by serves the port that it is for; all other ports get one unit, which keeps their order
    (systemd.socket(5) promises none between units)."""
    names: dict[str, None] = {}
    listens: list[str] = []
    own: dict[str, None] = {}
    warnings = []
    for port in app.app.ports:
        if not port.socket_activated:
            continue
        listen = _LISTEN.get(port.protocol)
        if listen is None:
            warnings.append(f'app "{app.name}": port {port.name}: nothing can listen for protocol {port.protocol!r}, and it is ignored')
            continue
        for address, number in _addresses(pod, port):
            given = next((socket for socket in inherited if (socket.protocol, socket.port) == (port.protocol, number)), None)
            if given:
                names[given.unit] = None
            else:
                listens.append(f"{listen}={address}")
                own[port.name] = None
    unit = _unit(pod, app, list(own), listens) if listens else None
    return AppSockets(unit=unit, names=(*names, *([unit.name] if unit else [])), warnings=tuple(warnings))


def _addresses(pod: Pod, port: Port) -> list[tuple[str, int]]:
    """What to listen at: the port's numbers, or where the pod manifest exposes it."""
    exposed = next((exposed for exposed in pod.manifest.ports if exposed.name == port.name), None)
    first, address = (exposed.host_port, exposed.host_ip) if exposed else (port.port, None)
    prefix = "" if not address else f"[{address}]:" if ":" in address else f"{address}:"
    return [(f"{prefix}{number}", number) for number in range(first, first + port.count)]


def _unit(pod: Pod, app: PodApp, ports: list[str], listens: list[str]) -> SocketUnit:
    """Bound to the service as well: an app that has ended is not started again by whoever connects.

    But not where the service is one that systemd restarts: between two runs it counts as ended, and whoever connects then is to be served
    by the next. The supervisor stops the socket when it has ended for good.
    """
    service = pod.service(app.name)
    bound = pod.scope if may_restart(app) else f"{pod.scope} {service}"
    title = f"{'ports' if len(ports) > 1 else 'port'} {', '.join(ports)} of app {app.name} of pod {pod.name or pod.uuid}"
    lines = [
        "# Written by stage1_skim for a pod; removed with it.",
        "[Unit]",
        f"Description={quoting.description(title)}",
        f"BindsTo={bound}",
        f"After={pod.scope}",
        "CollectMode=inactive-or-failed",
        "",
        "[Socket]",
        *listens,
        "BindIPv6Only=both",
        *([f"FileDescriptorName={ports[0]}"] if len(ports) == 1 else []),
        f"Service={service}",
    ]
    return SocketUnit(name=socket_name(app.name, pod.uuid), text="\n".join(lines) + "\n")


def inherited_sockets(environment: Mapping[str, str]) -> tuple[InheritedSocket, ...]:
    """The internet sockets that systemd handed to this process by their units' names. They are not passed on to other programs."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return ()
    import socket

    found = []
    for index, unit in enumerate(environment.get("LISTEN_FDNAMES", "").split(":")):
        descriptor = _FIRST_DESCRIPTOR + index
        try:
            with socket.socket(fileno=os.dup(descriptor)) as opened:
                os.set_inheritable(descriptor, False)
                if opened.family not in (socket.AF_INET, socket.AF_INET6) or not unit.endswith(".socket"):
                    continue
                protocol = "udp" if opened.type == socket.SOCK_DGRAM else "tcp"
                found.append(InheritedSocket(unit=unit, protocol=protocol, port=opened.getsockname()[1]))
        except OSError:  # no descriptor, or none of a socket
            continue
    return tuple(found)
