"""The installed engine: its record, its images and trees, their mounts, its programs, and the pod that runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from engine.configuration import parse_configuration
from engine.doctor.finding import Check, error, note, ok, unseen, warning
from engine.layout import APPS
from engine.mount_units import binds
from engine.record import read_engine
from poddir.layout import DEFAULT_DATA_DIRECTORY, pod_manifest, pods_directory, store_directory, tree_rootfs

if TYPE_CHECKING:
    from engine.doctor.probe import Probe
    from engine.record import Engine, Image

_PROGRAMS = {"docker": ("docker", "usr/bin/docker"), "containerd": ("containerd", "usr/bin/containerd")}
_CLIENT = "/run/skim/docker/docker/usr/bin/docker"
_SETUP = "`skim setup`, then `systemctl restart docker`"


class Stored(NamedTuple):
    """An image of the engine: whether the store has it, and its tree; None where only root may look."""

    name: str
    stored: bool | None
    rendered: bool | None


class Shown(NamedTuple):
    """A bind mount of the engine's: whether it is there, whether of the right tree (None: only root sees), whether programs run there."""

    where: str
    mounted: bool
    right: bool | None
    noexec: bool


class Installed(NamedTuple):
    """`damaged` is what is wrong with the record, "" if nothing."""

    engine: Engine | None
    damaged: str
    configuration: str
    """What is wrong with /etc/skim/docker.conf; "" if nothing."""
    images: tuple[Stored, ...] = ()
    mounts: tuple[Shown, ...] = ()
    programs: tuple[tuple[str, int, str], ...] = ()
    """Name, exit status of `--version` and the last line that it said."""
    client: bool = False
    """Whether /run/skim/docker leads to a client."""
    pod: str = ""
    """UUID of the docker pod."""
    pod_images: tuple[str, ...] | None = None
    """Keys of the images of the running docker pod; None if none runs, or if only root may look."""

    @property
    def version(self) -> str:
        """Docker's; "" if none is set up."""
        return self.engine.docker.version if self.engine else ""


def gather(probe: Probe) -> Installed:
    damaged = ""
    engine = None
    try:
        engine = read_engine(probe.layout.record)
    except UserError as problem:
        damaged = problem.message
    except OSError as problem:
        damaged = f"{problem.filename}: {problem.strerror}"
    except UnicodeDecodeError:
        damaged = "engine.env is no text"
    configuration = _configuration(probe)
    if engine is None:
        return Installed(None, damaged, configuration)
    mounts = tuple(_shown(probe, bind.where, bind.what) for bind in binds(engine).values())
    usable = all(shown.mounted and not shown.noexec for shown in mounts)
    pod = probe.word("/var/lib/skim/pod-uuid")
    return Installed(
        engine,
        damaged,
        configuration,
        images=tuple(_stored(probe, image) for image in engine),
        mounts=mounts,
        programs=tuple(_try(probe, name, *where) for name, where in _PROGRAMS.items()) if usable and not probe.layout.root else (),
        client=probe.is_executable(_CLIENT),
        pod=pod,
        pod_images=_pod_images(probe, pod) if pod else None,
    )


def _configuration(probe: Probe) -> str:
    path = probe.layout.configuration.removeprefix(probe.layout.root)
    text = probe.text(path)
    if text is None:
        return "" if path in probe.denied else f"{path} is missing"
    try:
        found = parse_configuration(text, path)
    except UserError as problem:
        return problem.message
    missing = [image for image in found if not probe.exists(image)]
    return f"{path} names images that are not there: {', '.join(missing)}" if missing else ""


def _stored(probe: Probe, image: Image) -> Stored:
    store = store_directory(DEFAULT_DATA_DIRECTORY)
    digest = image.id.partition("-")[2]
    blob = f"{store}/blob/sha512/{digest[:2]}/{image.id}"
    tree = tree_rootfs(DEFAULT_DATA_DIRECTORY, image.tree)
    rendered = tree.removesuffix("/rootfs") + "/rendered"
    stored, ready = probe.exists(blob), probe.exists(rendered) and bool(probe.names(tree))
    return Stored(
        image.name,
        None if blob in probe.denied else stored,
        None if rendered in probe.denied or tree in probe.denied else ready,
    )


def _shown(probe: Probe, where: str, what: str) -> Shown:
    mounted = any(mount.target == where for mount in probe.mounts)
    return Shown(where, mounted, probe.same(where, what), probe.file_system(where).noexec if mounted else False)


def _try(probe: Probe, name: str, app: str, path: str) -> tuple[str, int, str]:
    done = probe.run([f"{probe.layout.engine_root(app)}/{path}", "--version"])
    if done is None:
        return name, 127, "cannot be run"
    said = (done.stdout or done.stderr).strip().splitlines()
    return name, done.status, said[0] if said else ""


def _pod_images(probe: Probe, pod: str) -> tuple[str, ...] | None:
    text = probe.text(pod_manifest(f"{pods_directory(DEFAULT_DATA_DIRECTORY, 'run')}/{pod}"))
    if text is None:
        return None
    try:
        return tuple(app["image"]["id"] for app in json.loads(text)["apps"])
    except (ValueError, KeyError, TypeError):
        return None  # `rkt list` tells of such a pod


def checks(installed: Installed, *, set_up: bool, running: bool) -> list[Check]:
    found = [_record(installed, set_up=set_up)]
    if installed.configuration:
        make = warning if installed.engine else error
        found.append(make("engine.configuration", installed.configuration, "correct the file, or put the images there, then `skim setup`"))
    if installed.engine is None:
        return found
    found += [_images(installed), *_mounts(installed), *_programs(installed)]
    if not installed.client:
        found.append(error("engine.client", f"{_CLIENT} is missing: `docker` finds no client", "skim setup"))
    elif installed.programs:
        found.append(ok("engine.client", "`docker` leads to the engine's client"))
    found += _running(installed) if running else []
    found.append(
        note(
            "engine.signatures",
            "images are not signed, and nothing checks who made them: only that they are whole",
            "nothing; take images from where you trust, signature checks come with a later version",
        )
    )
    return found


def _record(installed: Installed, *, set_up: bool) -> Check:
    name = "engine.record"
    if installed.damaged:
        return error(name, f"the record of the engine cannot be read: {installed.damaged}", "skim setup")
    if installed.engine is not None:
        docker, containerd = installed.engine.docker, installed.engine.containerd
        return ok(name, f"engine: {docker.name} {docker.version}, {containerd.name} {containerd.version}")
    if set_up:
        return error(name, "no engine is set up any more: /var/lib/skim/engine.env is missing", _SETUP)
    return warning(name, "no engine is set up yet: Docker cannot start", "`skim setup`, then `systemctl start docker`")


def _images(installed: Installed) -> Check:
    name = "engine.images"
    gone = [image.name for image in installed.images if image.stored is False]
    unpacked = [image.name for image in installed.images if image.rendered is False]
    if gone or unpacked:
        words = [f"not in the store: {', '.join(gone)}"] if gone else []
        words += [f"not unpacked: {', '.join(unpacked)}"] if unpacked else []
        return error(name, f"images of the engine are {'; '.join(words)}", _SETUP)
    if any(image.stored is None or image.rendered is None for image in installed.images):
        return unseen(name, "the images of the engine in /var/lib/rkt")
    return ok(name, f"{len(installed.images)} images are stored and unpacked")


def _mounts(installed: Installed) -> list[Check]:
    down = [shown.where for shown in installed.mounts if not shown.mounted]
    if down:
        what = f"not mounted: {', '.join(down)}"
        return [error("engine.mounts", f"{what}; the client and the engine's programs are missing", "`skim setup` mounts them again")]
    wrong = [shown.where for shown in installed.mounts if shown.right is False]
    noexec = [shown.where for shown in installed.mounts if shown.noexec]
    found = []
    if wrong:
        found.append(error("engine.mounts", f"mounted from elsewhere than the engine's tree: {', '.join(wrong)}", "skim setup"))
    if noexec:
        what = f"mounted noexec: {', '.join(noexec)}: no program of the engine runs"
        found.append(error("engine.noexec", what, "mount the file system of /var/lib/rkt without noexec, then `skim setup`"))
    if not found:
        found.append(ok("engine.mounts", f"mounts are up: {', '.join(shown.where for shown in installed.mounts)}"))
    return found


def _programs(installed: Installed) -> list[Check]:
    found = []
    for name, status, said in installed.programs:
        if status == 0:
            found.append(ok(f"engine.{name}", said))
        else:
            what = f"`{name} --version` of the engine fails with status {status}: {said}"
            do = "name images for this machine's architecture in /etc/skim/docker.conf, then `skim setup`"
            found.append(error(f"engine.{name}", what, do))
    return found


def _running(installed: Installed) -> list[Check]:
    if installed.engine is None or installed.pod_images is None:
        return []
    wanted = [installed.engine.app_images()[app].id for app in APPS]
    if all(any(image.startswith(key) for image in installed.pod_images) for key in wanted):
        return [ok("engine.running", f"pod {installed.pod} runs it")]
    return [
        note(
            "engine.running",
            f"pod {installed.pod} still runs the former engine",
            "`systemctl restart docker` changes over (with live-restore, containers go on)",
        )
    ]
