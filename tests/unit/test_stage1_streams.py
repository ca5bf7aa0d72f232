"""What the supervisor passes on: the journal's copy, which may have gaps, and inputs, which have an end."""

from __future__ import annotations

import os
import socket

import pytest

from stage1_skim import gc, streams
from stage1_skim.streams import Journal, Relay, Sink, Streams, pipe


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


def test_an_app_that_closes_its_input_stops_nothing() -> None:
    app_reader, app_writer = pipe()
    os.close(app_reader)
    sink = Sink(app_writer, ours=True)
    sink.put(b"nobody reads this")
    assert sink.broken
    sink.finish()


def test_the_slices_that_a_slice_is_in() -> None:
    assert gc._above("system-rkt-0123.slice") == ["system.slice", "system-rkt.slice"]
