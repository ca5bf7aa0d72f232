"""Which app comes after which: the list's order, unless an annotation says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from poddir import annotations as names

if TYPE_CHECKING:
    from stage1_skim.pod import Pod, PodApp


class Turn(NamedTuple):
    """An app and the names of those that must be up before it starts."""

    app: PodApp
    after: tuple[str, ...]


class Queue:
    """The apps that wait for others while the pod starts, seen by its supervisor.

    systemd alone knows the order but not the condition: with Requires= an app would also be restarted and stopped with the one before it,
    and with anything less it is started after a failure too.
    """

    def __init__(self, pod: Pod) -> None:
        self.waiting = {turn.app.name: frozenset(turn.after) for turn in start_order(pod) if turn.after}
        self.came_up: set[str] = set()
        self.given_up: set[str] = set()

    def due(self) -> tuple[str, ...]:
        """Those for which everything is up, or was and ended well. They are in the queue until whoever starts them takes them out."""
        return tuple(app for app, after in self.waiting.items() if after <= self.came_up)

    def give_up(self, ended: set[str]) -> bool:
        """Take out those that wait for what has ended without ever coming up; false if there was none."""
        hopeless = [app for app, after in self.waiting.items() if not ended.isdisjoint(after - self.came_up)]
        for app in hopeless:
            del self.waiting[app]
        self.given_up.update(hopeless)
        return bool(hopeless)


def start_order(pod: Pod) -> tuple[Turn, ...]:
    """Every app after all that it comes after, else as listed. Raises UserError for a name that no app has, and for a circle.

    `skim/after` on the app's entry, else on its image, names apps between commas, none for an app that waits for nothing. Without it an
    app comes after the one before it in the list.
    """
    left = [Turn(app=app, after=_after(pod, index)) for index, app in enumerate(pod.apps)]
    ordered: list[Turn] = []
    done: set[str] = set()
    while left:
        turn = next((turn for turn in left if done.issuperset(turn.after)), None)
        if turn is None:
            raise UserError(f"apps wait for each other: {_circle(left)}", hint=f"see the annotation {names.SKIM_AFTER}")
        left.remove(turn)
        ordered.append(turn)
        done.add(turn.app.name)
    return tuple(ordered)


def _after(pod: Pod, index: int) -> tuple[str, ...]:
    app = pod.apps[index]
    value = app.annotation(names.SKIM_AFTER)
    if value is None:
        return (pod.apps[index - 1].name,) if index else ()
    wanted = tuple(dict.fromkeys(name for name in (item.strip() for item in value.split(",")) if name))
    for name in wanted:
        if all(name != other.name for other in pod.apps):
            raise UserError(f'app "{app.name}": annotation {names.SKIM_AFTER} names {name!r}, which is no app of this pod')
    return wanted


def _circle(left: list[Turn]) -> str:
    """One way round, for the message: `a after b, b after a`."""
    turns = {turn.app.name: turn for turn in left}
    seen: list[str] = []
    name = left[0].app.name
    while name not in seen:
        seen.append(name)
        name = next(other for other in turns[name].after if other in turns)
    from itertools import pairwise

    return ", ".join(f"{one} after {other}" for one, other in pairwise([*seen[seen.index(name) :], name]))
