"""What a process gives up before it becomes another program: capabilities (capabilities(7)) and system calls (seccomp(2)).

systemd does this for what it starts itself. This is for a program that has to be privileged first and is another user's in the end.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _names(text: str) -> list[str]:
    return text.split()


# In the order of their numbers (linux/capability.h).
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in _names(
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
        "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    )
)
MOST_CAPABILITIES = 64  # that Linux has room for

_PR_CAPBSET_DROP = 24

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_CTL_NNP = 3
# The other architectures whose calls a kernel takes from programs, too (seccomp.h's SCMP_ARCH_ tokens).
_SECONDARY = {0xC000003E: (0x40000003, 0x4000003E), 0xC00000B7: (0x40000028,)}

_SECCOMP = "libseccomp.so.2"
_NO_SUCH_CALL = -1  # __NR_SCMP_ERROR; what another architecture has is another negative number

_libc = ctypes.CDLL(None, use_errno=True)


class CallFilter(NamedTuple):
    """`allowing`: these calls and no others, else all others. What is not allowed fails with `errno`, or kills the process if that is 0."""

    allowing: bool
    calls: Sequence[str]
    errno: int


def drop_capabilities(numbers: Sequence[int]) -> None:
    """Take them out of the bounding set: nothing executed from here on can get them. Raises OSError."""
    for capability in numbers:
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            number = ctypes.get_errno()
            if number != errno.EINVAL:  # which this kernel does not have
                raise OSError(number, f"cannot give up capability {capability}: {os.strerror(number)}")


def execute(program: str, argv: Sequence[str], environment: Mapping[str, str], calls: CallFilter) -> None:
    """execve(2) under a filter of system calls. Returns only by raising OSError, or UserError where the host has no libseccomp.

    All is laid out before: between the filter and the new program no call is made that the filter might not allow.
    """
    path = os.fsencode(program)
    words = _strings(argv)
    variables = _strings([f"{name}={value}" for name, value in environment.items()])
    seccomp, context = _filter(calls)
    loaded = seccomp.seccomp_load(context)
    if loaded == 0:
        _libc.execve(path, words, variables)
        loaded = -ctypes.get_errno()
    raise OSError(-loaded, os.strerror(-loaded), program)


def _strings(items: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(items) + 1))(*[os.fsencode(item) for item in items], None)


def unknown_calls(names: Sequence[str]) -> list[str]:
    """Those that this host's libseccomp does not know, which nothing can then filter; none where there is no libseccomp to ask."""
    try:
        seccomp = ctypes.CDLL(_SECCOMP)
    except OSError:
        return []
    return [name for name in names if seccomp.seccomp_syscall_resolve_name(name.encode()) == _NO_SUCH_CALL]


def _filter(calls: CallFilter) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    try:
        seccomp = ctypes.CDLL(_SECCOMP)
    except OSError as error:
        raise UserError(f"a filter of system calls for an app that is not root needs libseccomp on the host: {error}") from None
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_arch_native.restype = ctypes.c_uint32
    refusal = _ERRNO | calls.errno if calls.errno else _KILL_PROCESS
    default, action = (refusal, _ALLOW) if calls.allowing else (_ALLOW, refusal)
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise MemoryError
    # Linux lets nobody but root filter what a setuid program does; for root, whether it may is not the filter's to say.
    seccomp.seccomp_attr_set(context, _CTL_NNP, ctypes.c_uint32(os.geteuid() != 0))
    for architecture in _SECONDARY.get(seccomp.seccomp_arch_native(), ()):
        seccomp.seccomp_arch_add(context, ctypes.c_uint32(architecture))
    for name in calls.calls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number == _NO_SUCH_CALL:  # of our lists, for another kernel or machine; whoever names one himself has been warned
            continue
        added = seccomp.seccomp_rule_add(context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(0))
        if added != 0:
            raise OSError(-added, f"system call {name} cannot be filtered: {os.strerror(-added)}")
    return seccomp, context
