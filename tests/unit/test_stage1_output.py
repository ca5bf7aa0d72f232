"""The apps' output arrives whole, in order and told apart, whatever the reader does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Run in a process of its own: it is about descriptors 1 and 2.
PROGRAM = """
import os, select, sys
from types import SimpleNamespace
sys.path.insert(0, {root!r})
from stage1_skim import output, streams
streams.journal_stream = lambda name: None  # no journal of this machine's is written to
apps = [SimpleNamespace(name=name, entry=SimpleNamespace(annotation=lambda name: None)) for name in {apps!r}]
out = output.Output(SimpleNamespace(apps=apps))
def writer(app, kind):
    return os.open(getattr(out.of(app), kind).removeprefix("append:"), os.O_WRONLY | os.O_APPEND)
def pass_on(milliseconds):
    poll = select.poll()
    for descriptor, events in out.streams.wanted().items():
        poll.register(descriptor, events)
    ready = {{descriptor for descriptor, event in poll.poll(milliseconds)}}
    out.streams.pass_on(ready)
    return ready
def loop_until_empty():
    while pass_on(200):
        pass
{body}
while out.streams.read_rest() or out.streams.unwritten:
    if out.streams.unwritten:
        pass_on(100)
out.streams.finish()
while out.streams.unwritten:
    pass_on(100)
"""


def run(apps: list[str], body: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    program = PROGRAM.format(root=str(ROOT), apps=apps, body=textwrap.dedent(body))
    arguments: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([sys.executable, "-c", program], check=True, timeout=60, **arguments)  # type: ignore[call-overload,no-any-return]


def test_one_app_passes_unchanged_and_the_streams_stay_apart() -> None:
    done = run(
        ["a"],
        r"""
        os.write(writer("a", "stdout"), b"out\x00\xff no end")
        os.write(writer("a", "stderr"), b"err\n")
    """,
    )
    assert (done.stdout, done.stderr) == (b"out\x00\xff no end", b"err\n")


def test_several_apps_are_told_apart_by_whole_lines() -> None:
    done = run(
        ["a", "bb"],
        r"""
        a, b = writer("a", "stdout"), writer("bb", "stdout")
        os.write(a, b"one ")
        loop_until_empty()
        os.write(b, b"two\nthree\n")
        loop_until_empty()
        os.write(a, b"half\nlast")
    """,
    )
    assert done.stdout == b"bb: two\nbb: three\na: one half\na: last\n"


def test_one_place_keeps_the_order_of_both_streams() -> None:
    done = run(
        ["a"],
        r"""
        o, e = writer("a", "stdout"), writer("a", "stderr")
        for n in range(100):
            os.write((o, e)[n % 2], b"%d\n" % n)
            loop_until_empty() if n % 10 == 0 else None
    """,
        stderr=subprocess.STDOUT,
    )
    assert done.stdout == b"".join(b"%d\n" % number for number in range(100))


def test_a_slow_reader_loses_nothing(tmp_path: Path) -> None:
    reader = subprocess.Popen(["sh", "-c", f"sleep 1; cat > {tmp_path}/all"], stdin=subprocess.PIPE)
    run(
        ["a"],
        r"""
        import threading
        descriptor = writer("a", "stdout")
        def produce():
            for n in range(20000):
                os.write(descriptor, b"%0500d\n" % n)
        thread = threading.Thread(target=produce)
        thread.start()
        while thread.is_alive():
            pass_on(100)
    """,
        stdout=reader.stdin,
    )
    assert reader.stdin is not None
    reader.stdin.close()
    assert reader.wait(30) == 0
    assert (tmp_path / "all").read_bytes() == b"".join(b"%0500d\n" % number for number in range(20000))


def test_a_reader_that_went_away_does_not_end_the_pod() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(
        ["a"],
        r"""
        os.write(writer("a", "stdout"), b"nobody reads this\n")
        loop_until_empty()
        os.write(writer("a", "stderr"), b"still here\n")
    """,
        stdout=writer,
    )
    os.close(writer)
    assert done.stderr == b"still here\n"


@pytest.mark.parametrize(("most", "said"), [(4096, b"done"), (1024, b"a pod of 300 apps takes 2164 descriptors, and 1024 are allowed")])
def test_as_many_descriptors_as_many_apps_need(most: int, said: bytes) -> None:
    before = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, {most}))"
    program = before + PROGRAM.format(root=str(ROOT), apps=[f"app{number}" for number in range(300)], body="print('done'); sys.exit()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert said in done.stdout + done.stderr
    assert b"OSError" not in done.stderr
