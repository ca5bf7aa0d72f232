"""The pod manifest out of images and what the command line asks for: pure (contract sections 4.1 to 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc import isolators
from appc.app import Annotation, App, EnvironmentVariable
from appc.errors import UserError
from appc.names import is_ac_identifier, is_environment_name, sanitize_ac_name
from appc.pod import PodManifest, RuntimeApp, RuntimeImage
from poddir import annotations as names_of

from . import VERSION, flag_values
from .output import Failure, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from appc.app import Port
    from appc.image import ImageManifest
    from appc.isolators import Isolator
    from appc.pod import ExposedPort, Mount

    from .request import AppRequest, PodRequest

_ARCHITECTURES = ("amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64le")
_CAPABILITIES = (isolators.CAPABILITIES_RETAIN, isolators.CAPABILITIES_REMOVE)
_SECCOMP = (isolators.SECCOMP_RETAIN, isolators.SECCOMP_REMOVE)
_STREAMS = {"stdin": names_of.APP_STDIN, "stdout": names_of.APP_STDOUT, "stderr": names_of.APP_STDERR}


class Image(NamedTuple):
    """An image of the store: its key and its manifest."""

    key: str
    manifest: ImageManifest


class Caller(NamedTuple):
    """Who runs stage0: ids for apps whose image has no app section, and the environment that --inherit-env hands on."""

    uid: int
    gid: int
    environment: Mapping[str, str]


def generate(request: PodRequest, images: Sequence[Image], caller: Caller) -> PodManifest:
    """The manifest of a pod of `images`, one for each of `request.apps`. Raises UserError."""
    apps: list[RuntimeApp] = []
    for app_request, image in zip(request.apps, images, strict=True):
        app = runtime_app(app_request, image, request, caller)
        if any(other.name == app.name for other in apps):
            raise UserError(f"error: multiple apps with name {app.name}")
        apps.append(app)
    check_ports(request.ports, apps)
    return PodManifest(
        ac_version=VERSION,
        apps=tuple(apps),
        volumes=request.volumes,
        annotations=(Annotation(name=names_of.POD_MUTABLE, value="false"),),
        ports=request.ports,
    )


def app_name(request: AppRequest, image: ImageManifest) -> str:
    """The --name, else the last part of the image's name made an ACName. Raises UserError."""
    if not request.name:
        return sanitize_ac_name(image.name.rpartition("/")[2])
    try:
        return flag_values.ac_name(request.name)
    except ValueError as error:
        raise Failure("invalid app name format") from UserError(str(error))


def check_platform(image: ImageManifest) -> None:
    """Refuse an image that is not for Linux on a machine that rkt knows (contract section 2.3). Raises UserError."""
    system, machine = image.label("os"), image.label("arch")
    if system is None:
        raise UserError("missing os label in the image manifest")
    if machine is None:
        raise UserError("missing arch label in the image manifest")
    if system != "linux":
        raise UserError(f"bad os {quote(system)} (must be one of: [linux])")
    if machine not in _ARCHITECTURES:
        raise UserError(f"bad arch {quote(machine)} for linux (must be one of: [{' '.join(_ARCHITECTURES)}])")


def runtime_app(request: AppRequest, image: Image, pod: PodRequest, caller: Caller) -> RuntimeApp:
    """One entry of the pod manifest's `apps`. Raises UserError."""
    check_platform(image.manifest)
    app = image.manifest.app
    if app is None:
        if not request.exec:
            raise UserError(f"error: image {image.key} has no app section and --exec argument is not provided")
        app = App(exec=(), user=str(caller.uid), group=str(caller.gid))
    return RuntimeApp(
        name=app_name(request, image.manifest),
        image=RuntimeImage(id=image.key, name=image.manifest.name, labels=image.manifest.labels),
        app=_environment(_overridden(app, request), request, pod, caller),
        read_only_root_fs=request.read_only_root_fs,
        mounts=_merged_mounts(request.mounts, pod.mounts),
        annotations=_annotations(request),
    )


def _overridden(app: App, request: AppRequest) -> App:
    return app._replace(
        exec=((request.exec,) if request.exec else app.exec) + request.arguments,
        working_directory=request.working_directory or app.working_directory,
        isolators=_isolators(app.isolators, request),
        user=request.user or app.user,
        group=request.group or app.group,
        supplementary_gids=app.supplementary_gids if request.supplementary_gids is None else request.supplementary_gids,
        user_annotations=app.user_annotations if request.user_annotations is None else request.user_annotations,
        user_labels=app.user_labels if request.user_labels is None else request.user_labels,
    )


def _environment(app: App, request: AppRequest, pod: PodRequest, caller: Caller) -> App:
    """From low to high: inherited, image, --environment, file, --set-env; the last two win over --environment, as in rkt's code."""
    merged = {variable.name: variable.value for variable in app.environment}
    merged.update(request.environment or {})
    if pod.inherit_environment:
        for name, value in caller.environment.items():
            merged.setdefault(name, value)
    merged.update(pod.environment_file)
    merged.update(pod.environment)
    return app._replace(environment=tuple(EnvironmentVariable(name=name, value=value) for name, value in merged.items()))


def _annotations(request: AppRequest) -> tuple[Annotation, ...]:
    found = []
    for name, value in (request.annotations or {}).items():
        if not is_ac_identifier(name):
            raise Failure(f"error parsing annotation key {quote(name)}") from UserError(
                "it must be an ACIdentifier such as example.com/name"
            )
        found.append(Annotation(name=name, value=value))
    for stream, mode in (request.streams or {}).items():
        found = [annotation for annotation in found if annotation.name != _STREAMS[stream]]
        found.append(Annotation(name=_STREAMS[stream], value=mode))
    return tuple(found)


def _merged_mounts(own: Sequence[Mount], shared: Sequence[Mount]) -> tuple[Mount, ...]:
    """The app's own first, then the pod's; of several with one path the first."""
    import posixpath

    kept: dict[str, Mount] = {}
    for mount in (*own, *shared):
        kept.setdefault(posixpath.normpath(mount.path).replace("//", "/", 1), mount)
    return tuple(kept.values())


def _isolators(present: Iterable[Isolator], request: AppRequest) -> tuple[Isolator, ...]:
    """--memory and --cpu are appended, so that the image's own stay before them; the others take the place of theirs."""
    found = list(present)
    found += [isolator for isolator in (request.memory, request.cpu) if isolator is not None]
    if request.capabilities_retain is not None and request.capabilities_remove is not None:
        raise UserError("error: cannot use both --caps-retain and --caps-remove on the same image")
    for isolator, names in (
        (request.cpu_shares, (isolators.CPU_SHARES,)),
        (request.oom_score_adj, (isolators.OOM_SCORE_ADJ,)),
        (request.capabilities_retain or request.capabilities_remove, _CAPABILITIES),
        (seccomp_isolator(request.seccomp), _SECCOMP),
    ):
        if isolator is not None:
            found = [other for other in found if other.name not in names] + [isolator]
    return tuple(found)


def seccomp_isolator(text: str) -> Isolator | None:
    """--seccomp's `mode=retain|remove[,errno=E][,CALL…]`; None for "". Raises UserError."""
    if not text:
        return None
    mode, errno, calls = "", "", []
    for part in text.split(","):
        key, *value = part.split("=")
        if len(value) != 1:
            calls.append(part)
        elif key == "mode":
            mode = value[0]
        elif key == "errno":
            errno = value[0]
        else:
            raise UserError("invalid seccomp command-line override")
    if mode not in ("retain", "remove"):
        raise UserError("invalid seccomp mode command-line override")
    return isolators.seccomp_isolator(isolators.SECCOMP_RETAIN if mode == "retain" else isolators.SECCOMP_REMOVE, calls, errno)


def check_ports(ports: Sequence[ExposedPort], apps: Sequence[RuntimeApp]) -> None:
    """Every exposed port belongs to exactly one app's port, and no two to the same of the host. Raises UserError."""
    forwarded: list[tuple[ExposedPort, Port]] = []
    for exposed in ports:
        port = exposed.pod_port or _app_port(exposed.name, apps)
        address = exposed.host_ip or "0.0.0.0"
        for other, other_port in forwarded:
            same = port.protocol == other_port.protocol and exposed.host_port == other.host_port
            other_address = other.host_ip or "0.0.0.0"
            if same and (address == other_address or "0.0.0.0" in (address, other_address)):
                raise UserError(f"port {port.protocol}-{address}:{exposed.host_port} already mapped to pod port {other_port.port}")
        forwarded.append((exposed, port))


def _app_port(name: str, apps: Sequence[RuntimeApp]) -> Port:
    found = [port for entry in apps if entry.app for port in entry.app.ports if port.name == name]
    if not found:
        raise UserError(f"port name {quote(name)} could not be found in any apps")
    if len(found) > 1:
        raise UserError(f"port name {quote(name)} defined multiple apps")
    return found[0]


def inheritable(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that a manifest can hold, and the names of those that it cannot: a shell's exported functions, what is no UTF-8."""
    kept, refused = {}, []
    for name, value in environment.items():
        if is_environment_name(name) and not any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            kept[name] = value
        else:
            refused.append(name)
    return kept, refused
