"""Where the apps' standard streams lead: through pipes that systemd connects their services to, to `rkt run`'s own and to the journal.

Under a unit whose output is the journal the services write there themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appc.errors import UserError
from poddir import annotations as names
from stage1_skim.streams import STDERR, STDIN, STDOUT, Journal, Relay, Sink, Streams, pipe, reopened
from stage1_skim.units import Streams as Connections

if TYPE_CHECKING:
    from stage1_skim.pod import Pod, PodApp
    from stage1_skim.terminal import Terminal


_DESCRIPTORS_OF_AN_APP = 7  # both ends of two pipes, two streams to the journal, its main process
_OTHER_DESCRIPTORS = 64


class Output:
    """All of a pod's. With several apps every line begins with its app's name; one app's bytes pass unchanged.

    An `interactive` pod has one app, which gets our input, too; what it says is between it and the caller, and not for the journal.
    """

    def __init__(self, pod: Pod, *, interactive: bool = False) -> None:
        keep_open()
        _make_room(len(pod.apps))
        self.streams = Streams()
        self.terminal: Terminal | None = None
        self.is_interactive = interactive
        self._connections: dict[str, Connections] = {}
        if interactive and os.isatty(STDIN) and os.isatty(STDOUT):
            from stage1_skim.terminal import Terminal

            self.terminal = Terminal(self.streams)
        stdout = None if self.terminal or _is_journal(STDOUT) else Sink(STDOUT, name="standard output")
        # What goes to one place stays one stream, or the order between the two would be lost.
        stderr = stdout if _same_file(STDOUT, STDERR) else None if _is_journal(STDERR) else Sink(STDERR, name="standard error")
        for app in pod.apps:
            if self.terminal:
                self._connections[app.name] = self._on_terminal(self.terminal, app, stderr)
                continue
            prefix = f"{app.name}: ".encode() if len(pod.apps) > 1 else b""
            connections = self._connect(app, prefix, stdout, stderr)
            self._connections[app.name] = connections._replace(stdin=self._input()) if interactive else connections

    def of(self, app: str) -> Connections:
        """What an app's unit says of its streams."""
        return self._connections[app]

    def _connect(self, app: PodApp, prefix: bytes, stdout: Sink | None, stderr: Sink | None) -> Connections:
        silent = [app.entry.annotation(name) == "null" for name in (names.APP_STDOUT, names.APP_STDERR)]
        first = "null" if silent[0] else self._source(app, prefix, stdout)
        if silent[1]:
            return Connections(stdout=first, stderr="null")
        return Connections(stdout=first, stderr=first if stderr is stdout and not silent[0] else self._source(app, prefix, stderr))

    def _on_terminal(self, terminal: Terminal, app: PodApp, stderr: Sink | None) -> Connections:
        errors = "tty" if os.isatty(STDERR) else self._source(app, b"", stderr)
        return Connections(stdin="tty-force", stdout="tty", stderr=errors, terminal=terminal.path)

    def _source(self, app: PodApp, prefix: bytes, sink: Sink | None) -> str:
        """A new way in, as StandardOutput= names it: opening it makes one more writer of the pipe."""
        if sink is None:
            return "journal"
        reader, writer = pipe()
        self.streams.add(Relay(reader, [sink], prefix=prefix, journal=None if self.is_interactive else Journal(app.name)))
        return f"append:{of_this_process(writer)}"

    def _input(self) -> str:
        """What comes on our standard input goes to the app's, to its end."""
        reader, writer = pipe()
        app = Sink(writer, ours=True)
        own = reopened(STDIN, os.O_RDONLY)
        self.streams.add(Relay(STDIN if own is None else own, [app], on_end=app.finish, is_input=True))
        return f"file:{of_this_process(reader)}"


def of_this_process(descriptor: int) -> str:
    """A path that leads everybody to what this process has open; pipes and files can be opened by it, sockets cannot (proc(5))."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def keep_open() -> None:
    """Who closed one of ours has nothing to say, or to hear; a descriptor of something else must not take its number."""
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), descriptor)


def _make_room(apps: int) -> None:
    """As many descriptors as a pod of so many apps needs, if we may have them. Raises UserError."""
    needed = apps * _DESCRIPTORS_OF_AN_APP + _OTHER_DESCRIPTORS
    if needed <= os.sysconf("SC_OPEN_MAX"):
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        raise UserError(
            f"a pod of {apps} apps takes {needed} descriptors, and {most} are allowed", hint="raise it: ulimit -Hn, LimitNOFILE="
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _is_journal(descriptor: int) -> bool:
    """Whether it is a stream of the journal's: then JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    status = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _same_file(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)
