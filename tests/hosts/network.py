"""A network between hosts that are containers: a bridge that only they see, and a link from it to each.

The bridge is in a network namespace of its own that nothing but an open file holds: it goes with `close`, or with this process, however
that ends. A link is made in there and its other end moved into the host, so the namespace of this machine is never touched. A host that
loses power takes its link along and nobody else's, as on a real switch.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from hosts.host import HostError
from hosts.nspawn import NspawnHost, pid1_of

INTERFACE = "lan0"  # what a host's end is called
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """An Ethernet for hosts: 10.77.0.0/24, or another /24 that `prefix` begins."""

    def __init__(self, prefix: str = "10.77.0") -> None:
        """Raises OSError, or subprocess.CalledProcessError, where this machine's kernel has no network namespaces or no bridge."""
        self.prefix = prefix
        self._addresses: dict[str, str] = {}
        self._namespace = _new_namespace()
        try:
            self._ip("link", "add", "switch", "type", "bridge")
            self._ip("link", "set", "switch", "up")
        except BaseException:
            self.close()
            raise

    def boot(self, host: NspawnHost) -> str:
        """Boot a host with its link in place before its services start, as a network card is, and return its address there."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            plugged = pool.submit(self._plug_when_there, host)
            host.boot()
            return plugged.result()

    def _plug_when_there(self, host: NspawnHost) -> str:
        until = time.monotonic() + host.boot_timeout
        while pid1_of(host.folder) is None:
            if time.monotonic() > until:
                raise HostError(f"{host.name} has no PID 1 to link to the network")
            time.sleep(0.005)
        return self.plug(host)

    def plug(self, host: NspawnHost) -> str:
        """Link a host that is up to the network, and return its address: the same each time."""
        address = self._addresses.setdefault(host.name, f"{self.prefix}.{len(self._addresses) + 1}")
        self.unplug(host)  # the kernel takes the link of a host that is gone only in its own time
        pid, port = host.pid1(), self._port(host)
        self._ip("link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", str(pid))
        self._ip("link", "set", port, "master", "switch", "up")
        for words in (["addr", "add", f"{address}/24", "dev", INTERFACE], ["link", "set", INTERFACE, "up"]):
            subprocess.run(["nsenter", f"--target={pid}", "--net", "ip", *words], check=True)
        return address

    def unplug(self, host: NspawnHost) -> None:
        """Take a host's link out, as if its cable were pulled; none there is fine."""
        ports = self._ip("-oneline", "link", "show", "type", "veth")
        if f" {self._port(host)}@" in ports:
            self._ip("link", "delete", self._port(host))

    def _port(self, host: NspawnHost) -> str:
        return f"port{self._addresses[host.name].rpartition('.')[2]}"

    def _ip(self, *words: str) -> str:
        argv = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._namespace}", "ip", *words]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout

    def close(self) -> None:
        """Twice is fine."""
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _new_namespace() -> int:
    """A descriptor of a new network namespace (unshare(2)) that this thread leaves again at once."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _checked(_libc.setns(own, _CLONE_NEWNET), "setns")
    finally:
        os.close(own)


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
