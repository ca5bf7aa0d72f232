"""A swarm of two hosts, and services in it that say on which of them they run."""

from __future__ import annotations

from typing import NamedTuple

from hosts.host import Host

NETWORK = "between"
# Its page is the name of the node that it runs on.
PAGE = "/bin/busybox hostname > /index.html; exec /bin/busybox httpd -f -p 80 -h /"
_SERVICE = ["docker", "service", "create", "--detach", "--no-resolve-image", "--hostname={{.Node.Hostname}}"]
_SERVICE += ["--stop-signal=KILL"]  # a shell as PID 1 has no ear for TERM, and each stop would take ten seconds
# Not by name: a static busybox resolves names for nslookup, and crashes over them elsewhere.
_FETCH = """\
for address in $(/bin/busybox nslookup "$0" 2>/dev/null | /bin/busybox sed -n 's/^Address: \\([0-9.]*\\)$/\\1/p'); do
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 "$address" 80 | /bin/busybox tail -n 1
done
"""


class Swarm(NamedTuple):
    """Two hosts, and the names that they have as nodes."""

    manager: Host
    worker: Host
    names: tuple[str, str] = ("one", "two")


def form(swarm: Swarm, address: str, *, heartbeat: str = "2s") -> None:
    """Make a swarm of both by the manager's `address`, and its network. A host that misses three heartbeats is lost."""
    swarm.manager.check(["docker", "swarm", "init", f"--advertise-addr={address}", f"--dispatcher-heartbeat={heartbeat}"])
    token = swarm.manager.check("docker swarm join-token --quiet worker").strip()
    swarm.worker.check(["docker", "swarm", "join", f"--token={token}", f"{address}:2377"])
    wait_for_nodes(swarm, "Ready", "Ready")
    swarm.manager.check(["docker", "network", "create", "--driver=overlay", "--attachable", NETWORK])


def wait_for_nodes(swarm: Swarm, manager: str, worker: str, *, timeout: float = 60) -> None:
    """Until the manager says that it and the worker are in these states: `Ready`, `Down`."""
    wanted = "".join(f"{name} {state}\n" for name, state in zip(swarm.names, (manager, worker), strict=True))
    said = "docker node ls --format '{{.Hostname}} {{.Status}}' | sort"
    swarm.manager.wait_until(f'said=$({said}); echo "$said"; [ "$said" = "{wanted.strip()}" ]', timeout=timeout)


def serve(swarm: Swarm, name: str, *options: str, network: str = NETWORK) -> None:
    """Start a service that serves its node's name; by name it is found at the addresses of its tasks unless `options` say otherwise."""
    own = ["--endpoint-mode=dnsrr", f"--network={network}", f"--name={name}"]
    swarm.manager.check([*_SERVICE, *own, *options, "busybox", "/bin/sh", "-c", PAGE])


def wait_for_tasks(swarm: Swarm, service: str, *nodes: str, timeout: float = 60) -> None:
    """Until `service` runs once for each of `nodes`, there and nowhere else."""
    said = f"docker service ps {service} --filter desired-state=running --format '{{{{.Node}}}} {{{{.CurrentState}}}}'"
    wanted = "\n".join(sorted(nodes))
    script = f'said=$({said}); echo "$said"; [ "$(echo "$said" | sed "s/ Running .*//" | sort)" = "{wanted}" ]'
    try:
        swarm.manager.wait_until(script, timeout=timeout)
    except Exception as error:
        error.add_note(swarm.manager.run(f"docker service ps --no-trunc {service}").stdout)
        raise


def wait_for_pages(host: Host, service: str, *nodes: str, network: str = NETWORK, timeout: float = 150) -> None:
    """Until a container on `host` gets exactly the pages of `nodes` from the tasks of `service`, over a network of both hosts.

    Hosts that took each other for lost, as busy ones may, tell each other of their tasks again within a minute, and a half.
    """
    fetch = f"docker run --rm --network {network} busybox /bin/sh -c '{_quoted(_FETCH)}' tasks.{service}"
    wanted = "\n".join(sorted(nodes))
    host.wait_until(f'said=$({fetch} 2>&1); echo "$said"; [ "$(echo "$said" | sort)" = "{wanted}" ]', timeout=timeout)


def _quoted(text: str) -> str:
    return text.replace("'", "'\\''")
