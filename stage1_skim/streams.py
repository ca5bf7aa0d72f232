"""Bytes on their way: what is read from one descriptor and written to others, without ever waiting in read(2) or write(2).

Memory is bounded: a source is read only while every sink that must get all has room, so a slow reader slows the apps down and loses
nothing. Two places alone may have gaps, which are marked: the journal's copy, and a file where no space is left. An app must not stand
still because journald does, or for a full disk.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from typing import TYPE_CHECKING

from stage1_skim.systemd import journal_stream

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN = 0
STDOUT = 1
STDERR = 2

PIPE_BYTES = 256 * 1024  # of the pipes that are ours; the kernel allocates what is filled
_CHUNK = 256 * 1024
_BACKLOG = 256 * 1024
_JOURNAL_BACKLOG = 1024 * 1024
_JOURNAL_AGAIN_SECONDS = 1.0
_LONGEST_LINE = 65536  # longer ones are passed on in parts, so two apps' lines may mix there
_F_SETPIPE_SZ = 1031

_FULL = (errno.ENOSPC, errno.EDQUOT)  # somebody may make room
_FULL_AGAIN_SECONDS = 1.0


def pipe() -> tuple[int, int]:
    """A pipe of ours: both ends non-blocking and close-on-exec."""
    import fcntl

    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(writer, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # what pipes may take of the kernel's memory is used up: the usual size does, too (pipe(7))
        pass
    return reader, writer


def reopened(descriptor: int, flags: int) -> int | None:
    """Our own way into the same pipe or terminal, non-blocking: flags of what is shared with others are left as they are."""
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISFIFO(kind) and not stat.S_ISCHR(kind):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # a pipe that nobody reads (ENXIO), a terminal that was hung up (EIO)
        return None


class Sink:
    """A descriptor to write to, and what it could not take yet.

    Whatever goes wrong with it ends it, and the apps go on, as they would under any other init; but a full disk is tried again. With a
    `name` the user hears of it: `news` are lines, each told once.
    """

    def __init__(self, descriptor: int, *, ours: bool = False, name: str = "") -> None:
        self.backlog = bytearray()
        self.news: list[str] = []
        self.is_full = False
        self._name = name
        self._closing = False
        self._left_out = 0
        self._again = 0.0
        own = None if ours else reopened(descriptor, os.O_WRONLY)
        self._take(descriptor if own is None else own, never_blocks=ours or own is not None or stat.S_ISREG(os.fstat(descriptor).st_mode))

    def _take(self, descriptor: int, *, never_blocks: bool) -> None:
        self.descriptor = descriptor
        self.broken = False
        # Of anything else, PIPE_BUF bytes do not block where poll(2) says that there is room.
        self._at_once = never_blocks
        self._most = _CHUNK if never_blocks else select.PIPE_BUF

    @property
    def has_room(self) -> bool:
        return self.is_full or len(self.backlog) < _BACKLOG

    @property
    def pause(self) -> float:
        """For how many seconds there is no sense in writing to it."""
        return max(0.0, self._again - time.monotonic()) if self.is_full else 0.0

    def put(self, data: bytes) -> None:
        if self.broken:
            return
        if self.is_full and len(self.backlog) >= _BACKLOG:
            self._left_out += len(data)
            return
        idle = not self.backlog
        self.backlog += data
        if idle and self._at_once:
            self.write()

    def write(self) -> None:
        """Once. What is not `_at_once` wants poll(2) to have said that it may be written to."""
        try:
            with memoryview(self.backlog) as whole, whole[: self._most] as part:
                written = os.write(self.descriptor, part)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _FULL:
                self._fill(error)
            else:
                self._break(error)
            return
        del self.backlog[:written]
        if self.is_full:
            self._empty()
        if self._closing and not self.backlog:
            self._close()

    def finish(self) -> None:
        """Close it as soon as all is written."""
        self._closing = True
        if not self.backlog:
            self._close()

    def give_up(self) -> None:
        """Nothing comes after this; what found no space is lost, and told of."""
        lost = len(self.backlog) + self._left_out
        if self.is_full and self._name:
            self.news.append(f"{self._name}: the last {lost} bytes are lost")
        self.backlog.clear()

    def _fill(self, error: OSError) -> None:
        if not self.is_full and self._name:
            self.news.append(f"cannot write to {self._name}: {error.strerror}; trying again until it works")
        self.is_full = True
        self._again = time.monotonic() + _FULL_AGAIN_SECONDS

    def _empty(self) -> None:
        """There is room again. What was left out would stand after all that is still to be written."""
        self.is_full = False
        if self._left_out:
            self.backlog += f"\n[{self._left_out} bytes are missing here: no space was left]\n".encode()
            self._left_out = 0

    def _break(self, error: OSError) -> None:
        if self._name:
            self.news.append(f"cannot write to {self._name} any more: {error.strerror}")
        self.broken = True
        self.backlog.clear()
        self._broke()

    def _close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self.broken = True

    def _broke(self) -> None:
        """For a subclass that can do something about it."""


class Journal(Sink):
    """One stream of lines to the journal, opened when there is a first one. It never makes anybody wait: what journald does not take in
    time is left out, and a line says how much."""

    def __init__(self, identifier: str) -> None:
        self.backlog = bytearray()
        self.news = []
        self.is_full = False
        self._name = ""
        self.broken = True
        self.descriptor = -1
        self._closing = False
        self._identifier = identifier
        self._left_out = 0
        self._again = 0.0

    @property
    def has_room(self) -> bool:
        return True

    def put(self, data: bytes) -> None:
        if self.broken and not self._open():
            self._left_out += len(data)
            return
        if len(self.backlog) + len(data) > _JOURNAL_BACKLOG:
            self._left_out += len(data)
            return
        if self._left_out:
            data = f"\n[{self._left_out} bytes are missing here: the journal did not take them in time]\n".encode() + data
            self._left_out = 0
        super().put(data)

    def _open(self) -> bool:
        if time.monotonic() < self._again:
            return False
        self._again = time.monotonic() + _JOURNAL_AGAIN_SECONDS
        descriptor = journal_stream(self._identifier)
        if descriptor is None:
            return False
        os.set_blocking(descriptor, False)
        self._take(descriptor, never_blocks=True)
        return True

    def _broke(self) -> None:
        os.close(self.descriptor)
        self.descriptor = -1


class Relay:
    """What is read from `reader`, non-blocking or said to be ready by poll(2), goes to every sink.

    With a `prefix` it goes there line by line, each beginning with that. `journal` gets it as it is. `on_data` sees all of it, and
    `on_end` is called at its end. Whatever goes wrong in reading is its end; of an `is_input` the user hears why (`news`).
    """

    def __init__(
        self,
        reader: int,
        sinks: list[Sink],
        *,
        prefix: bytes = b"",
        journal: Journal | None = None,
        on_data: Callable[[bytes], None] | None = None,
        on_end: Callable[[], None] | None = None,
        is_input: bool = False,
    ) -> None:
        self.reader = reader
        self.ended = False
        self.sinks = sinks
        self.journal = journal
        self.is_input = is_input
        self.news: list[str] = []
        self._left: int | None = None
        self._prefix = prefix
        self._partial = bytearray()
        self._on_data = on_data
        self._on_end = on_end

    @property
    def has_room(self) -> bool:
        return not self.ended and all(sink.has_room for sink in self.sinks)

    def read(self) -> bool:
        """Pass on what is there; False if there is nothing, now or (`ended`) any more."""
        try:
            data = os.read(self.reader, _CHUNK if self._left is None else min(_CHUNK, self._left))
        except BlockingIOError:
            return False
        except OSError as error:
            if self.is_input and error.errno != errno.EIO:  # a terminal that was hung up
                self.news.append(f"cannot read standard input: {error.strerror}; it ends here for the app")
            data = b""
        if not data:
            self.ended = True
            if self._on_end:
                self._on_end()
            return False
        if self._left is not None:
            self._left -= len(data)
            self.ended = self._left == 0
        if self._on_data:
            self._on_data(data)
        if self.journal:
            self.journal.put(data)
        if self._prefix:
            data = self._whole_lines(data)
        if data:
            for sink in self.sinks:
                sink.put(data)
        return True

    def read_only_the_rest(self) -> None:
        """Whoever wrote is gone. What they wrote is in the pipe still, and no pipe holds more than this; what somebody whom they left
        behind writes after it may have no end."""
        self._left = PIPE_BYTES

    def finish(self) -> None:
        """Nothing more comes: a last line without its end is passed on with one."""
        if self._partial:
            for sink in self.sinks:
                sink.put(self._prefix + bytes(self._partial) + b"\n")
            self._partial.clear()

    def _whole_lines(self, data: bytes) -> bytes:
        self._partial += data
        end = self._partial.rfind(b"\n") + 1
        if not end:
            if len(self._partial) < _LONGEST_LINE:
                return b""
            end = len(self._partial)
        lines = bytes(self._partial[:end])
        del self._partial[:end]
        return self._prefix + lines[:-1].replace(b"\n", b"\n" + self._prefix) + lines[-1:]


class Streams:
    """All relays of a pod, for one poll loop: what it is to look for, and what is done with what it found."""

    def __init__(self) -> None:
        self._relays: list[Relay] = []
        self._sinks: list[Sink] = []  # each once

    def add(self, relay: Relay) -> None:
        self._relays.append(relay)
        for sink in (*relay.sinks, *([relay.journal] if relay.journal else [])):
            if sink not in self._sinks:
                self._sinks.append(sink)

    def wanted(self) -> dict[int, int]:
        """What to poll for, by descriptor. What is not asked for is left out altogether: POLLHUP would come all the time."""
        found = {relay.reader: select.POLLIN for relay in self._relays if relay.has_room}
        for sink in self._sinks:
            if sink.backlog and not sink.pause:
                found[sink.descriptor] = found.get(sink.descriptor, 0) | select.POLLOUT
        return found

    def pause(self) -> float | None:
        """Seconds after which `wanted` asks for more though nothing has happened; None for never."""
        return min((sink.pause for sink in self._sinks if sink.backlog and sink.pause), default=None)

    def pass_on(self, ready: set[int]) -> None:
        for relay in self._relays:
            if relay.reader in ready and relay.has_room:
                relay.read()
        for sink in self._sinks:
            if sink.backlog and sink.descriptor in ready:
                sink.write()

    def end_apps(self) -> None:
        """The apps are gone: nothing is read for them any more, and of what comes from them no more than they can have written."""
        self._relays = [relay for relay in self._relays if not relay.is_input]
        for relay in self._relays:
            relay.read_only_the_rest()
        kept = {id(sink) for relay in self._relays for sink in (*relay.sinks, relay.journal)}
        self._sinks = [sink for sink in self._sinks if id(sink) in kept]

    def read_rest(self) -> bool:
        """Read once from every relay whose sinks have room; whether there may be more."""
        more = False
        for relay in self._relays:
            if relay.has_room:
                more = relay.read() or more
            elif not relay.ended:
                more = True
        return more

    def news(self) -> list[str]:
        """What the user is to know, each line once."""
        found: list[str] = []
        for news in (*(relay.news for relay in self._relays), *(sink.news for sink in self._sinks)):
            found += news
            news.clear()
        return found

    @property
    def is_full(self) -> bool:
        return any(sink.is_full for sink in self._sinks)

    @property
    def unwritten(self) -> bool:
        """Whether somebody has yet to take what was read."""
        return any(sink.backlog for sink in self._sinks if not isinstance(sink, Journal))

    @property
    def unwritten_to_journal(self) -> bool:
        return any(sink.backlog for sink in self._sinks if isinstance(sink, Journal))

    def finish(self) -> None:
        for relay in self._relays:
            relay.finish()

    def give_up(self) -> None:
        """Nobody waits any longer."""
        for sink in self._sinks:
            sink.give_up()
