"""The supervisor: the process that stage0 exec'ed, in the pod's scope, until every app has ended.

While the pod changes it listens to systemd; while all is quiet it holds no connection and waits for the apps' main processes to end
(pidfd_open(2)), so an idle pod costs nothing.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from linux.signals import SIGCONT, SIGHUP, SIGKILL, SIGUSR1, SIGUSR2, SIGWINCH, read_signals, signal_descriptor
from linux.steps import reached
from stage1_skim import notes, systemd
from stage1_skim.caller import has_terminal, wanted_signals
from stage1_skim.order import Queue
from stage1_skim.places import socket_name, stop_request
from stage1_skim.sockets import is_socket_activated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stage1_skim.output import Output
    from stage1_skim.pod import Pod
    from stage1_skim.systemd import Manager, UnitState
    from stage1_skim.terminal import Terminal

_FAILED = 1  # for a service that failed though its process said 0, or never had one
_CANNOT_RELOAD = "org.freedesktop.systemd1.JobTypeNotApplicable"
_RECONNECTION_SECONDS = (0.02, 0.05, 0.1, 0.3, 1.0)  # the last one again and again
_POLL_SECONDS = 0.1
_JOURNAL_SECONDS = 2.0
_LAST_OUTPUT_SECONDS = 10.0  # how long a pod that is being stopped waits for whoever reads its output


class Supervisor:
    """One pod's. `report` takes a line for the user."""

    def __init__(self, pod: Pod, output: Output, report: Callable[[str], None]) -> None:
        self._pod = pod
        self._streams = output.streams
        self._terminal = output.terminal
        self._is_interactive = output.is_interactive
        self._report = report
        self._services = {app.name: pod.service(app.name) for app in pod.apps}
        self._hints = {
            app: f" (journalctl -u {service} has its last words)" if output.of(app).stderr == "journal" else ""
            for app, service in self._services.items()
        }
        self._paths = frozenset(systemd.unit_path(unit).encode() for unit in (*self._services.values(), pod.scope))
        self._signals = signal_descriptor(wanted_signals() | ({SIGWINCH, SIGCONT} if output.terminal else set()))
        # Only a service of systemd is told by SIGHUP to reload; everybody else's terminal has gone away.
        self._hang_up_stops = output.terminal is not None or has_terminal()
        self._activated = {app.name for app in pod.apps if is_socket_activated(app)}
        self._poll = select.poll()
        self._asked: dict[int, int] = {}
        self._queue = Queue(pod)
        self._ended: set[str] = set()
        self._never_ran: list[str] = []
        self._started = False
        self._scope_was_up = False
        self._stop_wanted = False
        self._reload_wanted = False
        self._to_pass_on: list[int] = []
        self._stopping = False
        self._ready = False
        self._failure = 0

    def start(self) -> None:
        """Put this process into the pod's scope, which starts the first apps. Raises SystemdError; nothing was started then."""
        self._take_signals()
        if self._stop_wanted or self._is_stop_requested():
            return
        try:
            with systemd.Manager() as manager:
                self._start_scope(manager)
        except systemd.ConnectionLostError:
            with systemd.Manager() as manager:
                if not manager.is_loaded(self._pod.scope):
                    self._start_scope(manager)
        self._started = True
        reached("scope")

    def run(self) -> int:
        """See the apps through, and return what `rkt run` exits with: the first failure's status, else 0."""
        if not self._started:
            return 0
        if self._terminal:
            self._terminal.make_raw()
        try:
            # Whoever asked for the stop before there was a scope to stop left a note; whoever asks from here on stops the scope.
            if self._is_stop_requested():
                self._stop_wanted = True
            while watched := self._follow_patiently():
                reached("ready")
                self._wait_quietly(watched)
            self._finish_output()
        finally:
            if self._terminal:
                self._terminal.restore()
        return self._failure

    def _is_stop_requested(self) -> bool:
        return os.path.exists(stop_request(self._pod.directory))

    def _start_scope(self, manager: Manager) -> None:
        manager.start_scope(
            self._pod.scope,
            pids=[os.getpid()],
            slice_name=self._pod.slice,
            description=f"supervisor of pod {self._pod.name or self._pod.uuid}",
            wants=[service for app, service in self._services.items() if app not in self._queue.waiting],
            before=[self._services[app] for app in self._queue.waiting],
        )

    def _follow_patiently(self) -> list[int]:
        """A systemd that re-executes itself (systemctl daemon-reexec) drops its connections; the apps run on, and so does this."""
        failures = 0
        told = False
        while True:
            try:
                with systemd.Manager(patience=0) as manager:
                    failures = 0
                    return self._follow(manager)
            except systemd.SystemdError as error:
                if failures >= len(_RECONNECTION_SECONDS) and not told:
                    self._say(f"{error}; trying again until it works")
                    told = True
            self._wait([], _RECONNECTION_SECONDS[min(failures, len(_RECONNECTION_SECONDS) - 1)])
            failures += 1

    def _follow(self, manager: Manager) -> list[int]:
        """Listen until nothing changes any more.

        Returns descriptors of the processes to watch when all apps that are left run and can be left alone; none when all have ended.
        """
        while True:
            manager.drain(self._paths)
            self._do_what_signals_want(manager)
            states = manager.states((*self._services.values(), self._pod.scope))
            self._record(manager, states)
            if not self._stopping and (self._queue.give_up(self._ended) or self._start_next(manager, states)):
                continue
            left = [service for app, service in self._services.items() if app not in self._ended]
            if not left:
                self._settle(manager, states)
                return []
            if all(states[service].running for service in left) and not self._stopping:
                self._settle(manager, states)
                watched = [] if self._stopping else manager.main_processes(left)
                if watched:
                    return watched
            while not manager.drain(self._paths) and not self._wants_something:
                self._wait([manager.descriptor()])

    def _do_what_signals_want(self, manager: Manager) -> None:
        if self._reload_wanted:
            self._reload(manager)
        # What a program does with these is its own affair: whoever sends them to `rkt run` means the app that the others are there for.
        while self._to_pass_on:
            manager.kill_unit(self._services[self._pod.apps[-1].name], self._to_pass_on.pop(0), who="main")
        if self._terminal and self._terminal.kill_wanted and not self._stopping:
            self._stop(manager)
            for service in self._services.values():
                manager.kill_unit(service, SIGKILL)
        if self._wants_stop and not self._stopping:
            self._stop(manager)

    def _record(self, manager: Manager, states: dict[str, UnitState]) -> None:
        """Take note of apps that ended since the last look; the first that failed ends the pod."""
        self._notice_stop_by_others(states[self._pod.scope])
        for app, service in self._services.items():
            state = states[service]
            if state.running:
                self._queue.came_up.add(app)
            if app in self._queue.waiting and not self._stopping:
                continue
            # Until the pod is up a failure is a failure, whatever the unit would do about it later: who starts the pod hears of it at once.
            early = state.restarting and not self._ready
            if app in self._ended or not (state.ended or early):
                continue
            process = manager.main_process(service)
            if state.ended:
                self._ended.add(app)
                self._close_socket(manager, app)
                if not process.code:
                    if state.active == "failed" and not self._stopping and not self._failure:
                        self._failure = _FAILED
                        self._say(
                            f'app "{app}" was not started: its pre-start failed: {process.result} (journalctl -u {service} says more)'
                        )
                    else:
                        self._never_ran.append(app)
                    continue
                if state.active == "inactive":
                    self._queue.came_up.add(app)
                self._say(notes.write_status(self._pod.directory, app, process.status))
            if (early or state.active == "failed") and not self._stopping and not self._failure:
                self._failure = process.status or _FAILED
                if not self._is_interactive or not process.exited:  # a shell's last status is no news to who typed in it
                    self._say(f'app "{app}" {process.ending}{self._hints[app]}')
        if self._failure and not self._stopping and len(self._ended) < len(self._services):
            self._stop(manager)

    def _start_next(self, manager: Manager, states: dict[str, UnitState]) -> bool:
        """Start the apps that wait for nothing any more; false if there was none."""
        due = self._queue.due()
        for app in due:
            service = self._services[app]
            try:
                # It has run already if only systemd's answer got lost the last time.
                if states[service].load == "loaded" and not manager.has_run(service):
                    manager.start_unit(service)
            except systemd.ConnectionLostError:
                raise
            except systemd.SystemdError as error:
                self._failure = self._failure or _FAILED
                self._say(f'app "{app}" was not started: {error}')
            del self._queue.waiting[app]
        return bool(due)

    def _close_socket(self, manager: Manager, app: str) -> None:
        """Who connects is not to start an app again that has ended, and may just have done so."""
        if app in self._activated:
            manager.stop_unit(socket_name(app, self._pod.uuid))
            manager.stop_unit(self._services[app])

    def _notice_stop_by_others(self, scope: UnitState) -> None:
        """`rkt stop`, or an operator's systemctl, stops the scope; what the apps exit with then is no failure."""
        if scope.running:
            self._scope_was_up = True
        elif self._scope_was_up:
            self._stopping = True

    def _settle(self, manager: Manager, states: dict[str, UnitState]) -> None:
        """Everything runs, or is over: the pod is ready, unless something never came to run."""
        if self._never_ran and not self._failure and not self._stopping:
            self._failure = _FAILED
            for app in self._never_ran:
                self._say(f'app "{app}" was not started: {self._why_not(app, states)}')
            if len(self._ended) < len(self._services):
                self._stop(manager)
        elif not self._ready and not self._stopping and not self._failure:
            self._ready = True
            self._say(notes.write_ready(self._pod.directory))
            systemd.notify(f"READY=1\nSTATUS={self._status()}")

    def _status(self) -> str:
        """What `systemctl status` of the unit that runs us shows: the pod, and what runs in it."""
        apps = ", ".join(f"{app.name} {app.image.label('version') or ''}".rstrip() for app in self._pod.apps)
        return f"{apps}; pod {self._pod.uuid}"

    def _why_not(self, app: str, states: dict[str, UnitState]) -> str:
        service = self._services[app]
        if states[service].load != "loaded":
            return f"its unit is {states[service].load}"
        return "what it comes after failed" if app in self._queue.given_up else f"its unit's conditions say no (systemctl cat {service})"

    def _stop(self, manager: Manager) -> None:
        """Stopping the scope first stops the apps that are bound to it, last one first; its SIGTERM to us then says nothing new."""
        self._stopping = True
        systemd.notify("STOPPING=1")
        manager.stop_unit(self._pod.scope)

    def _reload(self, manager: Manager) -> None:
        self._reload_wanted = False
        for app, service in self._services.items():
            try:
                manager.reload_unit(service)
            except systemd.ConnectionLostError:
                raise
            except systemd.SystemdError as error:
                if error.name != _CANNOT_RELOAD:
                    self._say(f'app "{app}": {error}')

    # -- waiting, while output is passed on ------------------------------------------------------------------------------------------

    def _wait(self, descriptors: Sequence[int], seconds: float | None = None) -> None:
        """Pass output on until one of these is ready, a signal wants something done, or the time is over."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            ready = self._poll_once(descriptors, None if deadline is None else deadline - time.monotonic())
            if not ready.isdisjoint(descriptors) or (deadline is not None and time.monotonic() >= deadline):
                return
            if self._wants_something and deadline is None:
                return

    def _poll_once(self, descriptors: Sequence[int], seconds: float | None) -> set[int]:
        """What is ready, after output was passed on and signals were taken."""
        pause = self._streams.pause()
        if pause is not None and (seconds is None or pause < seconds):
            seconds = pause + 0.001
        wanted = self._streams.wanted()
        wanted[self._signals] = select.POLLIN
        wanted.update((descriptor, select.POLLIN) for descriptor in descriptors)
        if wanted != self._asked:
            self._poll = select.poll()
            for descriptor, events in wanted.items():
                self._poll.register(descriptor, events)
            self._asked = wanted
        ready = {descriptor for descriptor, _ in self._poll.poll(None if seconds is None else max(0, int(seconds * 1000)))}
        if self._signals in ready:
            self._take_signals()
        self._streams.pass_on(ready)
        self._tell_news()
        return ready

    def _tell_news(self) -> None:
        for line in self._streams.news():
            self._say(line)

    def _wait_quietly(self, watched: list[int]) -> None:
        self._wait(watched)
        for descriptor in watched:
            os.close(descriptor)

    def _finish_output(self) -> None:
        """All that the apps wrote is read and written out. Waits for whoever reads it: for ever as any program would, but not if the pod
        is to stop; for room on a full disk and for the journal a moment."""
        self._stop_wanted = False
        self._streams.end_apps()
        if self._terminal:
            self._read_terminal(self._terminal)
        deadline = time.monotonic() + _LAST_OUTPUT_SECONDS if self._stopping else None
        while self._streams.read_rest() or self._streams.unwritten:
            deadline = self._write_some(deadline)
            if deadline is not None and time.monotonic() > deadline:
                break
        self._streams.finish()
        while self._streams.unwritten and (deadline is None or time.monotonic() <= deadline):
            deadline = self._write_some(deadline)
        self._streams.give_up()
        self._tell_news()
        until = time.monotonic() + _JOURNAL_SECONDS
        while self._streams.unwritten_to_journal and time.monotonic() < until:
            self._poll_once([], _POLL_SECONDS)

    def _write_some(self, deadline: float | None) -> float | None:
        """A signal that ends the waiting makes the deadline now."""
        if self._streams.unwritten:
            self._poll_once([], _POLL_SECONDS)
        if deadline is None and self._streams.is_full:
            return time.monotonic() + _LAST_OUTPUT_SECONDS
        return time.monotonic() if self._wants_stop and deadline is None else deadline

    def _read_terminal(self, terminal: Terminal) -> None:
        """To its end, which there is when the app's side is closed; unless something that the app left behind still has it open."""
        terminal.close_apps_end()
        until = time.monotonic() + _POLL_SECONDS
        while not terminal.is_read and time.monotonic() < until:
            self._poll_once([], _POLL_SECONDS / 10)

    @property
    def _wants_stop(self) -> bool:
        return self._stop_wanted or (self._terminal is not None and (self._terminal.is_gone or self._terminal.kill_wanted))

    @property
    def _wants_something(self) -> bool:
        return self._reload_wanted or bool(self._to_pass_on) or (self._wants_stop and not self._stopping)

    def _take_signals(self) -> None:
        for number in read_signals(self._signals):
            if number == SIGWINCH:
                self._resize()
            elif number == SIGCONT:
                self._take_terminal_back()
            elif number in (SIGUSR1, SIGUSR2):
                self._to_pass_on.append(number)
            elif number == SIGHUP and not self._hang_up_stops:
                self._reload_wanted = True
            else:
                self._stop_wanted = True

    def _resize(self) -> None:
        if self._terminal:
            self._terminal.resize()

    def _take_terminal_back(self) -> None:
        if self._terminal:
            self._terminal.make_raw()
            self._terminal.resize()

    def _say(self, line: str) -> None:
        if line:
            self._report(line + ("\r" if self._terminal and self._terminal.is_raw else ""))
