"""The entrypoint `enter`: a command beside an app, as the app: its user, environment, directory, in the pod's slice (contract section 3.2).

It is executed in the place of `rkt enter`, so terminal, job control, signals and exit status are the command's own.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from appc.errors import UserError
from linux.signals import restore_defaults
from poddir import layout
from stage1_skim import arguments, rootfs, systemd
from stage1_skim.arguments import STRING
from stage1_skim.launch import app_launch, command_line, image_path
from stage1_skim.launch_app import become_app
from stage1_skim.pod import read_pod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stage1_skim.pod import Pod, PodApp
    from stage1_skim.systemd import Manager

_FLAGS = {"pid": STRING, "appname": STRING}
_NOT_FOUND = 127
_PATIENCE = 30.0  # seconds
_POLL_SECONDS = 0.01
_STOP_MICROSECONDS = 5_000_000  # between SIGTERM with SIGHUP, which ends a shell, and SIGKILL
_METADATA_URL = "AC_METADATA_URL"


class CommandNotFoundError(UserError):
    """As a shell reports it."""

    exit_code = _NOT_FOUND


def main(words: Sequence[str]) -> int:
    """Becomes the command; returns only by raising UserError."""
    given = arguments.parse(words, _FLAGS)
    if not given.rest:
        raise UserError("no command to enter with")
    directory = os.getcwd()
    pod = read_pod(directory, _uuid(directory))
    app = next((app for app in pod.apps if app.name == given.flags.get("appname")), None)
    if app is None:
        raise UserError(f"the pod has no app {given.flags.get('appname', '')!r}", hint="it has " + ", ".join(app.name for app in pod.apps))
    launch = app_launch(pod, app, {}, metadata_url=_metadata_url(pod, app))
    environment = {"TERM": os.environ.get("TERM", "vt100"), **launch.environment}
    program, argv = _command(pod, app, given.rest, environment)
    _join(pod)
    try:
        os.chdir(launch.directory)
        become_app(launch.credentials)
        restore_defaults()
        os.execve(program, argv, environment)
    except OSError as error:
        raise UserError(f"cannot run {given.rest[0]}: {error.strerror}") from None


def _uuid(directory: str) -> str:
    """The pod directory is called by it; stage0 does not pass it."""
    return os.path.basename(directory)


def _metadata_url(pod: Pod, app: PodApp) -> str:
    """It holds a token that only `run` was told."""
    try:
        with open(layout.app_environment(pod.directory, app.name), encoding="utf-8", errors="surrogateescape") as lines:
            return next((line.rstrip("\n").partition("=")[2] for line in lines if line.startswith(_METADATA_URL + "=")), "")
    except OSError:
        return ""


def _command(pod: Pod, app: PodApp, command: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The image's program of that name, else the host's: this stage1 shows an app the host with its image before it."""
    directory = app.app.working_directory or "/"
    if rootfs.find_executable(app.root, command[0], directory=directory, search=image_path(app)) is not None:
        return command_line(pod, app, command, directory)
    name = command[0]
    candidates = [name] if "/" in name else [os.path.join(element, name) for element in environment["PATH"].split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate, command
    raise CommandNotFoundError(f"{name}: not found, neither in image {app.image.name} nor on the host")


def _join(pod: Pod) -> None:
    """A scope of its own in the pod's slice, which ends with the pod: a shell that ignores SIGTERM does not hold the pod up."""
    name = f"enter-{os.getpid()}-rkt-{pod.uuid}.scope"
    with systemd.Manager() as manager:
        _wait_for(manager, pod.scope)
        manager.start_scope(
            name,
            pids=[os.getpid()],
            slice_name=pod.slice,
            description=f"a command in pod {pod.uuid}",
            properties=(("BindsTo", "as", [pod.scope]), ("SendSIGHUP", "b", 1), ("TimeoutStopUSec", "t", _STOP_MICROSECONDS)),
        )
        manager.wait_until_started(name, seconds=_PATIENCE)


def _wait_for(manager: Manager, scope: str) -> None:
    """A pod has a process to enter a moment before it has its scope. Raises UserError for a pod that has ended, or is about to."""
    deadline = time.monotonic() + _PATIENCE
    while (state := manager.active_state(scope)) != "active":
        if state in ("deactivating", "failed") or not os.path.exists(f"/proc/{_pid()}") or time.monotonic() > deadline:
            raise UserError("the pod does not run")
        time.sleep(_POLL_SECONDS)


def _pid() -> str:
    try:
        with open(layout.PID, encoding="ascii") as file:
            return file.read().strip() or "none"
    except OSError:
        return "none"
