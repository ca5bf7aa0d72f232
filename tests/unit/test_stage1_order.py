"""Whose turn it is while a pod starts."""

from __future__ import annotations

from pathlib import Path

from pod_directories import UUID, add_program, app_entry, app_root, app_section, make_pod
from stage1_skim.order import Queue
from stage1_skim.pod import read_pod


def make_queue(folder: Path, **after: str) -> Queue:
    entries = [app_entry(name, app_section("/bin/app"), annotations={"skim/after": names}) for name, names in after.items()]
    pod = make_pod(folder, *entries)
    for name in after:
        add_program(app_root(pod, name), "/bin/app")
    return Queue(read_pod(str(pod), UUID))


def test_an_app_is_due_when_all_that_it_comes_after_is_up(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, a="", b="", c="a,b")
    assert (set(queue.waiting), queue.due()) == ({"c"}, ())
    queue.came_up.add("a")
    assert queue.due() == ()
    queue.came_up.add("b")
    assert queue.due() == queue.due() == ("c",)


def test_what_ended_without_coming_up_takes_all_after_it_along(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, a="", b="a", c="b", d="")
    assert not queue.give_up({"d"})
    assert queue.give_up({"a"})
    assert (set(queue.waiting), queue.given_up) == ({"c"}, {"b"})
    assert queue.give_up({"a", "b"})
    assert (queue.waiting, queue.given_up) == ({}, {"b", "c"})


def test_what_was_up_and_ended_holds_nobody_up(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, a="", b="a")
    queue.came_up.add("a")
    assert not queue.give_up({"a"})
    assert queue.due() == ("b",)
