"""What the supervisor passes on: the journal's copy, which may have gaps, and inputs, which have an end."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from stage1_skim import gc, streams
from stage1_skim.streams import Journal, Relay, Sink, Streams, pipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def journald(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Ends of the streams that were opened; none can be while the list's first is None."""
    ends: list[socket.socket] = []

    def connect(_: str) -> int:
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        return ours.detach()

    monkeypatch.setattr(streams, "journal_stream", connect)
    return ends


def drained(end: socket.socket) -> bytes:
    end.setblocking(False)
    data = b""
    try:
        while more := end.recv(1 << 20):
            data += more
    except BlockingIOError:
        pass
    return data


def test_a_stream_is_opened_for_the_first_line(journald: list[socket.socket]) -> None:
    journal = Journal("app")
    assert journald == []
    journal.put(b"line\n")
    assert drained(journald[0]) == b"line\n"


def test_what_is_missing_is_told(journald: list[socket.socket]) -> None:
    journal = Journal("app")
    block = b"x" * 99_999 + b"\n"
    for _ in range(40):
        journal.put(block)
        assert journal.has_room
    assert len(journal.backlog) <= 1 << 20
    got = b""
    while journal.backlog:
        got += drained(journald[0])
        journal.write()
    journal.put(b"after\n")
    got += drained(journald[0])
    missing = 40 * len(block) - got.count(b"x") - got.count(b"x\n")
    assert missing > 0
    assert f"\n[{missing} bytes are missing here: the journal did not take them in time]\nafter\n".encode() in got


def test_a_journald_that_went_away_is_asked_again(journald: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_JOURNAL_AGAIN_SECONDS", 0.0)
    journal = Journal("app")
    journal.put(b"one\n")
    journald[0].close()
    journal.put(b"lost\n")
    journal.put(b"two\n")
    assert drained(journald[1]).endswith(b"two\n")


def test_an_input_ends_for_the_app_when_all_is_written() -> None:
    source_reader, source_writer = pipe()
    app_reader, app_writer = pipe()
    sink = Sink(app_writer, ours=True)
    everything = Streams()
    everything.add(Relay(source_reader, [sink], on_end=sink.finish, is_input=True))
    os.write(source_writer, b"all of it")
    os.close(source_writer)
    everything.pass_on({source_reader})
    everything.pass_on({source_reader})
    assert os.read(app_reader, 100) == b"all of it"
    assert os.read(app_reader, 100) == b""
    assert everything.wanted() == {}
    os.close(app_reader)


@pytest.mark.parametrize("kind", ["directory", "reset connection", "write-only"])
def test_an_input_that_cannot_be_read_is_at_its_end_and_the_user_hears_why(kind: str) -> None:
    descriptor, why = unreadable(kind)
    ends: list[bool] = []
    everything = Streams()
    everything.add(Relay(descriptor, [], on_end=lambda: ends.append(True), is_input=True))
    everything.pass_on({descriptor})
    assert ends == [True]
    assert everything.news() == [f"cannot read standard input: {why}; it ends here for the app"]
    assert everything.news() == []
    os.close(descriptor)


def unreadable(kind: str) -> tuple[int, str]:
    if kind == "directory":
        return os.open("/", os.O_RDONLY), "Is a directory"
    if kind == "write-only":
        return os.open(os.devnull, os.O_WRONLY), "Bad file descriptor"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted = server.accept()[0]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return accepted.detach(), "Connection reset by peer"


def test_output_that_cannot_be_written_is_told_of_once_and_ends() -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    sink = Sink(descriptor, ours=True, name="standard output")
    for _ in range(3):
        sink.put(b"words\n")
    assert sink.broken
    assert sink.news == ["cannot write to standard output any more: Bad file descriptor"]
    os.close(descriptor)


def test_a_full_disk_holds_nobody_up_and_is_told_of_once() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    sink = Sink(descriptor, ours=True, name="standard output")
    everything = Streams()
    everything.add(Relay(-1, [sink]))
    for _ in range(10):
        sink.put(b"x" * 100_000)
        assert sink.has_room
    assert everything.news() == ["cannot write to standard output: No space left on device; trying again until it works"]
    assert len(sink.backlog) < 400_000
    assert descriptor not in everything.wanted()  # it would be ready all the time
    assert 0 < (everything.pause() or 0) <= 1
    os.dup2(os.open("/dev/null", os.O_WRONLY), descriptor)
    kept = len(sink.backlog)
    sink.write()
    assert not sink.is_full
    assert bytes(sink.backlog).endswith(f"x\n[{1_000_000 - kept} bytes are missing here: no space was left]\n".encode())


def test_what_found_no_space_in_the_end_is_told_of() -> None:
    sink = Sink(os.open("/dev/full", os.O_WRONLY), name="standard output")
    sink.put(b"four")
    sink.write()
    sink.news.clear()
    sink.give_up()
    assert sink.news == ["standard output: the last 4 bytes are lost"]
    assert not sink.backlog


def test_somebody_who_writes_on_when_the_apps_are_gone_does_not_keep_the_pod(tmp_path: Path) -> None:
    reader, writer = pipe()
    everything = Streams()
    with (tmp_path / "all").open("wb") as file:
        everything.add(Relay(reader, [Sink(file.fileno(), ours=True)]))
        written = 0
        with suppress(BlockingIOError):
            while True:
                written += os.write(writer, b"app!")
        everything.end_apps()
        while everything.read_rest():
            with suppress(BlockingIOError):
                os.write(writer, b"-" * 300_000)
    assert (tmp_path / "all").read_bytes().startswith(b"app!" * (written // 4))
    assert (tmp_path / "all").stat().st_size <= streams.PIPE_BYTES
    os.close(writer)


def test_no_stream_to_the_journal_is_to_be_had() -> None:
    """Descriptors are used up: the pod goes on, and the journal lacks a line."""
    program = """
import os, resource, sys
sys.path.insert(0, {root!r})
from stage1_skim.streams import Journal
from stage1_skim.systemd import library
library()
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
journal = Journal("app")
journal.put(b"line\\n")
print(journal.broken)
"""
    done = subprocess.run([sys.executable, "-c", program.format(root=str(ROOT))], capture_output=True, text=True)
    if "cannot load systemd's library" in done.stderr:
        pytest.skip("no libsystemd on this machine")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_an_app_that_closes_its_input_stops_nothing() -> None:
    app_reader, app_writer = pipe()
    os.close(app_reader)
    sink = Sink(app_writer, ours=True)
    sink.put(b"nobody reads this")
    assert sink.broken
    sink.finish()


def test_the_slices_that_a_slice_is_in() -> None:
    assert gc._above("system-rkt-0123.slice") == ["system.slice", "system-rkt.slice"]
