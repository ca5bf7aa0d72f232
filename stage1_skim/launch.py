"""What exactly is executed for an app: program, arguments, working directory, environment, credentials (DESIGN section 5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from linux import inside
from poddir import annotations as names
from stage1_skim import quoting, rootfs
from stage1_skim.credentials import ROOT, Credentials, app_credentials
from stage1_skim.foreign import is_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.app import EventHandler
    from stage1_skim.pod import Pod, PodApp

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LONGEST_COMMAND = 64 * 1024  # characters; systemd takes no line of a unit longer than 1 MiB, and one may become four in it

# systemd's own words to the process that it started (sd_listen_fds(3), sd_notify(3), systemd.exec(5)). Inherited by `rkt run --inherit-env`
# they speak of the supervisor; given to an app they would override what systemd says to that app.
SYSTEMD_VARIABLES = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MAINPID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
)


class Launch(NamedTuple):
    """`program` and `directory` are the host's paths, by the app's public way in; `argv` is what the app sees; `environment` is whole."""

    program: str
    argv: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    credentials: Credentials

    @property
    def needs_launcher(self) -> bool:
        """Whether a unit cannot say it: systemd looks users up in the host's database, and not every name and value can be in its files."""
        return (
            not self.credentials.is_root
            or not quoting.is_plain_setting(self.directory)
            or not quoting.is_plain_program(self.program)
            or sum(map(len, self.argv)) > _LONGEST_COMMAND
            or not all(map(quoting.is_text, self.argv))
            or not all(quoting.is_plain_assignment(name, value) for name, value in self.environment.items())
        )


def app_launch(pod: Pod, app: PodApp, inherited: Mapping[str, str], *, metadata_url: str = "") -> Launch:
    """`inherited` is the environment that stage0 gave to `run`. Raises UserError: no such program, user, directory."""
    if not app.app.exec:
        raise UserError(f'app "{app.name}": image {app.image.name} has an empty "exec"', hint="give one with --exec=PROGRAM")
    credentials = app_credentials(app)
    directory = _working_directory(app)
    environment = _environment(pod, app, credentials, inherited)
    if metadata_url:
        environment["AC_METADATA_URL"] = metadata_url
    program, argv = command_line(pod, app, app.app.exec, directory)
    return Launch(program=program, argv=argv, directory=_public(pod, app) + directory, environment=environment, credentials=credentials)


def handler_launch(pod: Pod, app: PodApp, launch: Launch, handler: EventHandler) -> Launch:
    """What an event handler of the app executes: as root, else as the app does (contract section 5.6). Raises UserError."""
    if not handler.exec:
        raise UserError(f'app "{app.name}": event handler {handler.name} has an empty "exec"')
    program, argv = command_line(pod, app, handler.exec, _working_directory(app))
    return launch._replace(program=program, argv=argv, credentials=ROOT)


def command_line(pod: Pod, app: PodApp, command: tuple[str, ...], directory: str) -> tuple[str, tuple[str, ...]]:
    """The host's path of the program that `command` names in the app's image, and its arguments; a script's are its interpreter's."""
    search = image_path(app)
    found = rootfs.find_executable(app.root, command[0], directory=directory, search=search)
    if found is None:
        where = "" if "/" in command[0] else f" on its PATH ({':'.join(search)})"
        raise UserError(
            f'app "{app.name}": image {app.image.name} has no executable {command[0]!r}{where}',
            hint="exec[0] is looked up inside the image only",
        )
    public = _public(pod, app)
    interpreter = rootfs.script_interpreter(app.root, found)
    # Some programs, Python among them, find what belongs to them by argv[0]; those of aci-build's images get it as their image has it.
    named = public if is_foreign(app) else ""
    if interpreter:
        path, *options = interpreter.words
        first = public + inside.resolve(app.root, os.path.dirname(path)) + "/" + os.path.basename(path) if named else path
        return public + interpreter.program, (first, *options, public + found, *command[1:])
    first = named + command[0] if command[0].startswith("/") else command[0]
    return public + found, (first, *command[1:])


def image_path(app: PodApp) -> list[str]:
    """The elements of the app's PATH as its image writes them."""
    value = next((variable.value for variable in app.app.environment if variable.name == "PATH"), DEFAULT_PATH)
    return [element for element in value.split(":") if element]


def _public(pod: Pod, app: PodApp) -> str:
    return os.path.join(pod.public, app.name)


def _working_directory(app: PodApp) -> str:
    wanted = app.app.working_directory or "/"
    directory = inside.resolve(app.root, wanted)
    if not os.path.isdir(app.root + directory):
        raise UserError(
            f'app "{app.name}": image {app.image.name} has no directory {wanted!r} to work in',
            hint="workingDirectory, or --working-dir, names one inside the image",
        )
    return directory if directory != "/" else ""


def _environment(pod: Pod, app: PodApp, credentials: Credentials, inherited: Mapping[str, str]) -> dict[str, str]:
    """The executor's variables (specification: ace.md), then the app's own; PATH leads into the image first and to the host after."""
    home = inside.resolve(app.root, credentials.home)
    if home != "/" and os.path.isdir(app.root + home):
        home = os.path.join(pod.stable, app.name) + home
    else:
        home = credentials.home
    environment = {"SHELL": "/bin/sh", "USER": credentials.user, "LOGNAME": credentials.user, "HOME": home}
    for variable in app.app.environment:
        if variable.name not in SYSTEMD_VARIABLES or inherited.get(variable.name) != variable.value:
            environment[variable.name] = variable.value
    environment["PATH"] = ":".join(_search_path(pod, app))
    environment["AC_APP_NAME"] = app.name
    return environment


def _search_path(pod: Pod, app: PodApp) -> list[str]:
    elements: dict[str, None] = {}
    for provider in (app, *_path_providers(pod, app)):
        way = os.path.join(pod.stable, provider.name)
        for element in image_path(provider):
            if element.startswith("/"):
                elements[way + inside.resolve(provider.root, element)] = None
    for element in image_path(app):
        elements[element] = None
    return list(elements)


def _path_providers(pod: Pod, app: PodApp) -> list[PodApp]:
    value = app.annotation(names.SKIM_PATH_FROM) or ""
    providers = []
    for name in (item.strip() for item in value.split(",")):
        if not name:
            continue
        provider = next((other for other in pod.apps if other.name == name), None)
        if provider is None:
            raise UserError(f'app "{app.name}": annotation {names.SKIM_PATH_FROM} names {name!r}, which is no app of this pod')
        providers.append(provider)
    return providers
