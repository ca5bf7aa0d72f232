"""daemon.json: whether it can be read, what conflicts in it, and what the installed engine says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.doctor.finding import Check, error, note, ok, unseen, warning

if TYPE_CHECKING:
    from engine.doctor.probe import Probe
    from engine.doctor.settings import Settings

_AGAIN = "then `systemctl reset-failed docker; systemctl restart docker`"
_LOOPBACK = ("127.", "localhost", "[::1]")


class Verdict(NamedTuple):
    """What the installed dockerd says of the file: `asked` if it could be, and its words if it refuses it."""

    asked: bool = False
    refusal: str = ""


def gather(probe: Probe, settings: Settings) -> Verdict:
    root = probe.layout.engine_root("docker")
    dockerd = f"{root}/usr/sbin/dockerd"
    if not settings.present or settings.denied or settings.problem or probe.layout.root or not probe.is_executable(dockerd):
        return Verdict()
    # Given as a flag, or an empty one is found missing; its own directories on PATH, since it looks for docker-proxy.
    done = probe.run([dockerd, "--validate", f"--config-file={settings.path}"], path=f"{root}/usr/sbin:{root}/usr/bin")
    if done is None:
        return Verdict()
    said = (done.stderr or done.stdout).strip().splitlines()
    return Verdict(asked=True, refusal="" if done.status == 0 else said[-1] if said else f"status {done.status}")


def checks(settings: Settings, verdict: Verdict, *, ours: bool) -> list[Check]:
    """`ours`: whether docker.service runs the appliance's dockerd, which takes `hosts` beside the unit's own `-H fd://`."""
    name = "daemon-json.syntax"
    if settings.denied:
        return [unseen(name, settings.path)]
    if not settings.present:
        return [ok(name, f"no {settings.path}: Docker's own defaults"), *_flags(settings, ours=ours)]
    if settings.problem:
        return [error(name, settings.problem, f"correct it, {_AGAIN}")]
    found = [ok(name, f"{settings.path} is JSON")]
    if settings.twice:
        found.append(
            warning(
                "daemon-json.twice",
                f"{settings.path} has {', '.join(settings.twice)} more than once: the last one counts",
                "put both into one, or take one out",
            )
        )
    return [*found, *_flags(settings, ours=ours), *_engine(settings, verdict)]


def _engine(settings: Settings, verdict: Verdict) -> list[Check]:
    name = "daemon-json.valid"
    if not verdict.asked:
        return []
    if verdict.refusal:
        words = verdict.refusal.removeprefix(f"unable to configure the Docker daemon with file {settings.path}: ")
        return [error(name, f"{settings.path}: dockerd refuses it: {words}", f"correct it (`dockerd --validate` tries it), {_AGAIN}")]
    return [ok(name, f"the installed dockerd takes {settings.path}")]


def _flags(settings: Settings, *, ours: bool) -> list[Check]:
    found = []
    both = [key for key in settings.flags if key in settings.keys and key != "hosts"]
    if both:
        found.append(
            error(
                "daemon-json.conflict",
                f"{', '.join(both)}: both in {settings.path} and among the flags of docker.service, which dockerd refuses",
                "take it out of one of them: the file, or DOCKER_OPTS in /etc/default/docker, or ExecStart= (`systemctl cat docker`)",
            )
        )
    if settings.unknown_words:
        found.append(
            error(
                "daemon-json.arguments",
                f"docker.service gives dockerd words that are no flags: {' '.join(settings.unknown_words)}",
                "correct DOCKER_OPTS in /etc/default/docker, or ExecStart= (`systemctl cat docker`)",
            )
        )
    return [*found, *_hosts(settings, ours=ours)]


def _hosts(settings: Settings, *, ours: bool) -> list[Check]:
    name = "daemon-json.hosts"
    listed = settings.keys.get("hosts")
    in_file = [host for host in listed if isinstance(host, str)] if isinstance(listed, list) else []
    flags = list(settings.flags.get("hosts", ()))
    if "hosts" in settings.keys and flags and not (ours and set(flags) <= {"fd://"}):
        return [
            error(
                name,
                f"hosts: both in {settings.path} and as -H {' -H '.join(flags)} of docker.service, which dockerd refuses",
                f"take it out of one of them, {_AGAIN}",
            )
        ]
    addresses = in_file or flags
    open_to_all = [host for host in addresses if host.startswith("tcp://") and not host.removeprefix("tcp://").startswith(_LOOPBACK)]
    if open_to_all and settings.value("tlsverify") != "true":
        return [
            warning(
                name,
                f"dockerd listens on {', '.join(open_to_all)} without tlsverify: whoever reaches it is root on this host",
                'set "tlsverify" with "tlscacert", "tlscert" and "tlskey", or listen on 127.0.0.1',
            )
        ]
    if in_file and not any(host.startswith(("unix://", "fd://")) for host in in_file):
        return [
            note(
                name,
                f"hosts in {settings.path} name no local socket: /run/docker.sock does not answer",
                'add "fd://" to hosts, or use `docker` with DOCKER_HOST',
            )
        ]
    return [ok(name, f"dockerd listens on {', '.join(addresses)}")] if addresses else []
