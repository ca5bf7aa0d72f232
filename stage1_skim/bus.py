"""sd-bus(3) of the host's libsystemd, as far as the manager's private socket needs it: calls, and signals that something has changed.

No D-Bus daemon is needed and no program is spawned. `systemd.py` says what is asked over it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import TYPE_CHECKING

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

_PRIVATE_SOCKET = b"unix:path=/run/systemd/private"
_DESTINATION = b"org.freedesktop.systemd1"
_CALL_TIMEOUT = 90_000_000  # microseconds
_BOOTED = "/run/systemd/system"  # is there on every host whose init is systemd (sd_booted(3))
_CONNECT_SECONDS = 0.02

# Nobody listens on the private socket for the moment in which systemd re-executes itself.
_NOT_NOW = (errno.ECONNREFUSED, errno.ENOENT)
_GONE = (errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.ESHUTDOWN)

_pointer = ctypes.c_void_p
_NUMBERS = {"b": ctypes.c_int, "i": ctypes.c_int, "u": ctypes.c_uint, "t": ctypes.c_uint64}


class _BusError(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int))


class SystemdError(UserError):
    """systemd could not be reached, or refused: `name` is the D-Bus error's name, empty where there was no answer."""

    def __init__(self, message: str, *, name: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class ConnectionLostError(SystemdError):
    """There was a connection, and systemd closed it, as `systemctl daemon-reexec` makes it do. Whether it did what was asked is open."""


def library() -> ctypes.CDLL:
    """libsystemd, with the types of what it takes and gives declared. Raises SystemdError."""
    try:
        sd = ctypes.CDLL("libsystemd.so.0", use_errno=True)
    except OSError as error:
        raise SystemdError(f"cannot load systemd's library: {error}", hint="stage1_skim runs pods on hosts whose init is systemd") from None
    sd.sd_bus_message_read_basic.argtypes = (_pointer, ctypes.c_char, _pointer)
    sd.sd_bus_message_append_basic.argtypes = (_pointer, ctypes.c_char, _pointer)
    sd.sd_bus_message_get_path.restype = ctypes.c_char_p
    sd.sd_bus_message_get_path.argtypes = (_pointer,)
    sd.sd_bus_message_unref.restype = _pointer
    sd.sd_bus_flush_close_unref.restype = _pointer
    return sd


class Message:
    """One message to write, or to read from its beginning. Use as a context manager."""

    def __init__(self, sd: ctypes.CDLL, message: ctypes.c_void_p) -> None:
        self._sd = sd
        self.pointer = message

    def __enter__(self) -> Message:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._sd.sd_bus_message_unref(self.pointer)

    # -- writing ---------------------------------------------------------------------------------------------------------------------

    def append(self, signature: str, *values: object) -> None:
        """Basic values, one for each character of the signature: `s` text, `b`, `i`, `u` and `t` numbers."""
        for kind, value in zip(signature, values, strict=True):
            if kind == "s":
                pointer = ctypes.cast(ctypes.c_char_p(os.fsencode(str(value))), _pointer)
            else:
                pointer = ctypes.cast(ctypes.pointer(_NUMBERS[kind](int(str(value)))), _pointer)
            _written(self._sd.sd_bus_message_append_basic(self.pointer, kind.encode(), pointer))

    def append_array(self, kind: str, values: Iterable[object]) -> None:
        self.open("a", kind)
        for value in values:
            self.append(kind, value)
        self.close()

    def append_properties(self, properties: Iterable[tuple[str, str, object]]) -> None:
        """`a(sv)` of name, signature and value; an array's value is a sequence."""
        self.open("a", "(sv)")
        for name, signature, value in properties:
            self.open("r", "sv")
            self.append("s", name)
            self.open("v", signature)
            if signature.startswith("a"):
                self.append_array(signature[1:], value)  # type: ignore[arg-type]
            else:
                self.append(signature, value)
            self.close()
            self.close()
        self.close()

    def open(self, kind: str, contents: str) -> None:
        _written(self._sd.sd_bus_message_open_container(self.pointer, ctypes.c_char(kind.encode()), contents.encode()))

    def close(self) -> None:
        _written(self._sd.sd_bus_message_close_container(self.pointer))

    # -- reading ---------------------------------------------------------------------------------------------------------------------

    def enter(self, kind: str, contents: str) -> bool:
        """False at the end of an array."""
        return bool(_read(self._sd.sd_bus_message_enter_container(self.pointer, ctypes.c_char(kind.encode()), contents.encode())))

    def leave(self) -> None:
        _read(self._sd.sd_bus_message_exit_container(self.pointer))

    def text(self, kind: str = "s") -> str:
        text = ctypes.c_char_p()
        _read(self._sd.sd_bus_message_read_basic(self.pointer, kind.encode(), ctypes.cast(ctypes.pointer(text), _pointer)))
        return os.fsdecode(text.value or b"")

    def number(self, kind: str) -> int:
        number = ctypes.c_int() if kind == "i" else ctypes.c_uint()
        _read(self._sd.sd_bus_message_read_basic(self.pointer, kind.encode(), ctypes.cast(ctypes.pointer(number), _pointer)))
        return number.value

    def texts(self) -> Iterator[str]:
        """The elements of an array of texts."""
        self.enter("a", "s")
        text = ctypes.c_char_p()
        while _read(self._sd.sd_bus_message_read_basic(self.pointer, b"s", ctypes.cast(ctypes.pointer(text), _pointer))):
            yield os.fsdecode(text.value or b"")

    def rows(self, contents: str) -> Iterator[Message]:
        """The structs of an array, this message being inside each in turn."""
        self.enter("a", f"({contents})")
        while self.enter("r", contents):
            yield self
            self.leave()


class Connection:
    """To the system manager. Use as a context manager; every method raises SystemdError."""

    def __init__(self, *, patience: float) -> None:
        """`patience`: for how many seconds to try again where systemd is about to come back."""
        self._sd = library()
        self._bus = _pointer()
        deadline = time.monotonic() + patience
        while (result := self._connect()) < 0:
            self.close()
            if -result not in _NOT_NOW or not os.path.isdir(_BOOTED) or time.monotonic() > deadline:
                hint = "stage1_skim needs root and a systemd that runs as PID 1 of this host"
                raise SystemdError(f"cannot reach systemd: {os.strerror(-result)}", hint=hint)
            time.sleep(_CONNECT_SECONDS)

    def _connect(self) -> int:
        _checked(self._sd.sd_bus_new(ctypes.byref(self._bus)), "cannot make a bus connection")
        _checked(self._sd.sd_bus_set_address(self._bus, _PRIVATE_SOCKET), "cannot address systemd")
        return int(self._sd.sd_bus_start(self._bus))

    def close(self) -> None:
        if self._bus:
            self._sd.sd_bus_flush_close_unref(self._bus)
            self._bus = _pointer()

    def message(self, path: str, interface: str, member: str) -> Message:
        """A method call to systemd, to be filled."""
        message = _pointer()
        made = self._sd.sd_bus_message_new_method_call(
            self._bus, ctypes.byref(message), _DESTINATION, path.encode(), interface.encode(), member.encode()
        )
        _written(made)
        return Message(self._sd, message)

    def call(self, message: Message, what: str) -> Message:
        """Send it and return the answer; `what` begins the error's text."""
        error = _BusError()
        reply = _pointer()
        result = self._sd.sd_bus_call(self._bus, message.pointer, ctypes.c_uint64(_CALL_TIMEOUT), ctypes.byref(error), ctypes.byref(reply))
        if result < 0:
            name = (error.name or b"").decode()
            said = (error.message or b"").decode(errors="replace") or os.strerror(-result)
            self._sd.sd_bus_error_free(ctypes.byref(error))
            kind = ConnectionLostError if -result in _GONE else SystemdError
            raise kind(f"{what}: {said}", name=name)
        return Message(self._sd, reply)

    def descriptor(self) -> int:
        """What to poll for input."""
        return _checked(self._sd.sd_bus_get_fd(self._bus), _LOST)

    def drain(self, paths: frozenset[bytes]) -> bool:
        """Take in whatever has arrived and drop it: a signal only says that it is time to ask again. True if any was about `paths`."""
        seen = False
        while True:
            message = _pointer()
            worked = _checked(self._sd.sd_bus_process(self._bus, ctypes.byref(message)), _LOST)
            if message:
                with Message(self._sd, message):
                    seen = seen or self._sd.sd_bus_message_get_path(message) in paths
            if not worked:
                return seen


_LOST = "the connection to systemd was lost"


def _checked(result: int, what: str) -> int:
    if result < 0:
        kind = ConnectionLostError if -result in _GONE else SystemdError
        raise kind(f"{what}: {os.strerror(-result)}")
    return result


def _written(result: int) -> int:
    return _checked(result, "cannot write a message to systemd")


def _read(result: int) -> int:
    return _checked(result, "cannot read systemd's answer")
