"""What stage1_skim asks of the host's systemd, and what it is told (org.freedesktop.systemd1(5), sd_notify(3), sd-journal(3))."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from linux.signals import process_descriptors
from stage1_skim.bus import Connection, ConnectionLostError, SystemdError, library

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["ConnectionLostError", "MainProcess", "Manager", "SystemdError", "UnitState", "journal_stream", "notify", "unit_path"]

_OBJECT = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_UNIT = "org.freedesktop.systemd1.Unit"
_SERVICE = "org.freedesktop.systemd1.Service"
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_NO_SUCH_PROCESS = "org.freedesktop.systemd1.NoSuchProcess"
_CLD_EXITED = 1  # siginfo's code for a process that ended by itself (waitid(2))
_JOB_POLL_SECONDS = 0.002
_PATIENCE = 10.0  # seconds; a systemd that re-executes itself is back within moments


class UnitState(NamedTuple):
    """What systemd says of a unit at one moment: LoadState, ActiveState, SubState, and the number of the job that is queued, 0 for none."""

    load: str
    active: str
    sub: str
    job: int

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading") and self.job == 0

    @property
    def restarting(self) -> bool:
        """Between a failure and the restart that the unit asks for."""
        return self.sub == "auto-restart"

    @property
    def ended(self) -> bool:
        """Over for good: not between two restarts, not about to be started."""
        return self.active in ("inactive", "failed") and self.job == 0


class MainProcess(NamedTuple):
    """How a service's last main process ended.

    `code` is one of waitid(2)'s CLD_ codes, 0 for none that ever ran; `status` its exit status or signal; `result` systemd's verdict.
    """

    code: int
    status: int
    result: str

    @property
    def exited(self) -> bool:
        """By itself, not by a signal."""
        return self.code == _CLD_EXITED

    @property
    def ending(self) -> str:
        """For people, of one that failed."""
        if self.result not in ("exit-code", "signal", "core-dump"):
            return f"failed: {self.result}"
        return f"failed with exit status {self.status}" if self.exited else f"was killed by signal {self.status}"


class Manager:
    """The system manager, for as long as a connection to it is held. Use as a context manager; every method raises SystemdError."""

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        """`patience`: for how many seconds to wait for a systemd that re-executes itself."""
        self._bus = Connection(patience=patience)
        self.descriptor = self._bus.descriptor
        self.drain = self._bus.drain

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bus.close()

    # -- what it is asked to do ----------------------------------------------------------------------------------------------------

    def start_scope(
        self,
        name: str,
        *,
        pids: Sequence[int],
        slice_name: str,
        description: str,
        wants: Sequence[str] = (),
        before: Sequence[str] = (),
        properties: Sequence[tuple[str, str, object]] = (),
    ) -> None:
        """Put `pids` into a new transient scope; starting it starts the units that it `wants`. Does not wait for the job.

        Units that it is only `before` are started by others; systemd remembers both for as long as there is the scope.

        `properties`: more of them, as name, D-Bus type and value.
        """
        with self._bus.message(_OBJECT, _MANAGER, "StartTransientUnit") as message:
            message.append("ss", name, "fail")
            message.append_properties(
                (
                    ("Description", "s", description),
                    ("Slice", "s", slice_name),
                    ("CollectMode", "s", "inactive-or-failed"),
                    ("Wants", "as", wants),
                    ("Before", "as", before),
                    ("PIDs", "au", pids),
                    *properties,
                )
            )
            message.open("a", "(sa(sv))")
            message.close()
            with self._bus.call(message, f"cannot start {name}"):
                pass

    def wait_until_started(self, name: str, *, seconds: float) -> None:
        """Until the start job of `name` is done."""
        deadline = time.monotonic() + seconds
        while self.active_state(name) != "active":
            if time.monotonic() > deadline:
                raise SystemdError(f"{name} did not start within {seconds:.0f} s")
            time.sleep(_JOB_POLL_SECONDS)

    def start_unit(self, name: str) -> None:
        """Queue a start job."""
        self._tell("StartUnit", "ss", name, "fail", what=f"cannot start {name}")

    def stop_unit(self, name: str) -> None:
        """Queue a stop job; a unit that systemd does not have is stopped already."""
        self._tell("StopUnit", "ss", name, "replace", what=f"cannot stop {name}", tolerated=(_NO_SUCH_UNIT,))

    def reload_unit(self, name: str) -> None:
        """Run the unit's ExecReload=."""
        self._tell("ReloadUnit", "ss", name, "replace", what=f"cannot reload {name}")

    def reset_failed(self, name: str) -> None:
        self._tell("ResetFailedUnit", "s", name, what=f"cannot reset {name}", tolerated=(_NO_SUCH_UNIT,))

    def kill_unit(self, name: str, number: int, *, who: str = "all") -> None:
        """Send a signal to every process of the unit, or to its `main` one; no error where there is none."""
        self._tell("KillUnit", "ssi", name, who, number, what=f"cannot signal {name}", tolerated=(_NO_SUCH_UNIT, _NO_SUCH_PROCESS))

    def daemon_reload(self) -> None:
        self._tell("Reload", "", what="cannot make systemd reload its units")

    # -- what it is asked about ----------------------------------------------------------------------------------------------------

    def is_loaded(self, name: str) -> bool:
        """Whether systemd has the unit in memory, whatever its state."""
        try:
            self._tell("GetUnit", "s", name, what=f"cannot look up {name}")
        except SystemdError as error:
            if error.name == _NO_SUCH_UNIT:
                return False
            raise
        return True

    def active_state(self, unit: str) -> str:
        """The unit's ActiveState; `inactive` for one that systemd does not have. Makes systemd load nothing."""
        return self._text(unit, _UNIT, "ActiveState") if self.is_loaded(unit) else "inactive"

    def states(self, units: Sequence[str]) -> dict[str, UnitState]:
        """All of one moment, in one call: read one after another, even the properties of one unit would not fit together."""
        with self._bus.message(_OBJECT, _MANAGER, "ListUnitsByNames") as message:
            message.append_array("s", units)
            with self._bus.call(message, "cannot look up units") as reply:
                found = {}
                for row in reply.rows("ssssssouso"):
                    name, _, load, active, sub, *_ = (row.text(kind) for kind in "sssssso")
                    found[name] = UnitState(load=load, active=active, sub=sub, job=row.number("u"))
                    row.text("s")
                    row.text("o")
                return found

    def unit_files(self, unit: str) -> tuple[str, list[str]]:
        """The unit's own file, "" where there is none, and its drop-ins in their order. Makes systemd load the unit."""
        self._tell("LoadUnit", "s", unit, what=f"cannot load {unit}")
        with self._bus.message(unit_path(unit), "org.freedesktop.DBus.Properties", "Get") as message:
            message.append("ss", _UNIT, "DropInPaths")
            with self._bus.call(message, f"cannot read the drop-ins of {unit}") as reply:
                reply.enter("v", "as")
                return self._text(unit, _UNIT, "FragmentPath"), list(reply.texts())

    def main_pid(self, service: str) -> int:
        """0 where there is none."""
        return self._number(service, "MainPID", "u")

    def has_run(self, service: str) -> bool:
        """Whether it ever had a main process, since systemd has had the unit."""
        return self._number(service, "ExecMainPID", "u") != 0

    def main_processes(self, services: Sequence[str]) -> list[int]:
        """Descriptors of all their main processes, each ready when that has ended; or none at all if one of them is gone already."""
        pids = [self.main_pid(service) for service in services]
        found = process_descriptors(pids)
        # What was opened may be another process of that number: it is the service's if the service has it still.
        if [self.main_pid(service) for service in services] == pids:
            return found
        for descriptor in found:
            os.close(descriptor)
        return []

    def main_process(self, service: str) -> MainProcess:
        """Of a service that has ended, or is between two runs."""
        return MainProcess(
            code=self._number(service, "ExecMainCode", "i"),
            status=self._number(service, "ExecMainStatus", "i"),
            result=self._text(service, _SERVICE, "Result"),
        )

    def _tell(self, member: str, signature: str, *values: object, what: str, tolerated: tuple[str, ...] = ()) -> None:
        with self._bus.message(_OBJECT, _MANAGER, member) as message:
            message.append(signature, *values)
            try:
                with self._bus.call(message, what):
                    pass
            except SystemdError as error:
                if error.name not in tolerated:
                    raise

    def _text(self, unit: str, interface: str, name: str) -> str:
        with self._bus.message(unit_path(unit), "org.freedesktop.DBus.Properties", "Get") as message:
            message.append("ss", interface, name)
            with self._bus.call(message, f"cannot read {name} of {unit}") as reply:
                reply.enter("v", "s")
                return reply.text()

    def _number(self, service: str, name: str, kind: str) -> int:
        with self._bus.message(unit_path(service), "org.freedesktop.DBus.Properties", "Get") as message:
            message.append("ss", _SERVICE, name)
            with self._bus.call(message, f"cannot read {name} of {service}") as reply:
                reply.enter("v", kind)
                return reply.number(kind)


def unit_path(unit: str) -> str:
    """The unit's object path: what is not a letter or digit becomes `_` and two hex digits (sd_bus_path_encode(3))."""
    label = "".join(
        char if char.isascii() and char.isalnum() and (index or not char.isdigit()) else "".join(f"_{byte:02x}" for byte in char.encode())
        for index, char in enumerate(unit)
    )
    return f"{_OBJECT}/unit/{label}"


def notify(state: str) -> None:
    """sd_notify(3): tell the service manager that started us, if one did, in the protocol's `NAME=value` lines."""
    if "NOTIFY_SOCKET" in os.environ:
        library().sd_notify(0, os.fsencode(state))


def journal_stream(identifier: str) -> int | None:
    """A descriptor whose lines go to the journal under `identifier` (sd_journal_stream_fd(3)).

    None where there is none to be had now: no journal listens, it went away meanwhile, or descriptors are used up. No pod ends for that.
    """
    descriptor: int = library().sd_journal_stream_fd(os.fsencode(identifier), 6, 1)
    return None if descriptor < 0 else descriptor
