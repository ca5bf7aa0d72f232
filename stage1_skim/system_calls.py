"""The seccomp isolators: which system calls an app may make (specification: ace.md; contract section 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc import isolators
from appc.errors import UserError

if TYPE_CHECKING:
    from appc.isolators import Isolator


def _calls(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What any program needs to start and to end; systemd adds them to every list of calls that are allowed, and so do we.
DEFAULT = _calls(
    "arch_prctl brk cacheflush clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 "
    "execve exit exit_group futex futex_time64 futex_waitv get_robust_list get_thread_area getegid getegid32 geteuid geteuid32 getgid "
    "getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getrandom getresgid getresgid32 getresuid getresuid32 getrlimit gettid "
    "gettimeofday getuid getuid32 membarrier mmap mmap2 mprotect munmap nanosleep pause prlimit64 restart_syscall rseq rt_sigreturn "
    "sched_getaffinity sched_yield set_robust_list set_thread_area set_tid_address set_tls sigreturn time ugetrlimit"
)
_CLOCK = _calls("adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday")
_MODULE = _calls("delete_module finit_module init_module")
_RAW_IO = _calls("ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write s390_pci_mmio_read s390_pci_mmio_write")
_MOUNT = _calls("chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root umount umount2")
_REBOOT = _calls("kexec_file_load kexec_load reboot")
_SWAP = _calls("swapoff swapon")
_CHOWN = _calls("chown chown32 fchown fchown32 fchownat lchown lchown32")
_SET_IDS = _calls("setfsuid setfsuid32 setgroups setgroups32 setresuid setresuid32 setreuid setreuid32 setuid setuid32")
_KEYRING = _calls("add_key keyctl request_key")

# systemd's groups that rkt has names for.
_SYSTEMD = {
    "clock": _CLOCK,
    "default-whitelist": DEFAULT,
    "mount": _MOUNT,
    "network-io": _calls(
        "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg send "
        "sendmmsg sendmsg sendto setsockopt shutdown socket socketcall socketpair"
    ),
    "obsolete": _calls(
        "_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx prof profil putpmsg query_module "
        "security sgetmask ssetmask stime stty sysfs tuxcall ulimit uselib ustat vserver"
    ),
    "privileged": _CHOWN
    | _CLOCK
    | _MODULE
    | _RAW_IO
    | _REBOOT
    | _SWAP
    | _SET_IDS
    | _calls(
        "_sysctl acct bpf capset chroot fanotify_init fanotify_mark nfsservctl open_by_handle_at pivot_root quotactl quotactl_fd "
        "setdomainname sethostname vhangup"
    ),
    "process": _calls(
        "capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl rt_sigqueueinfo rt_tgsigqueueinfo setns "
        "swapcontext tgkill times tkill unshare vfork wait4 waitid waitpid"
    ),
    "raw-io": _RAW_IO,
}

# What acts on the machine rather than on a process of it: refused by Docker's default profile, and rkt's.
_BLACKLIST = (
    (_CLOCK | _MODULE | _REBOOT | _SWAP | _KEYRING)
    | (_MOUNT - {"chroot"})
    | frozenset(("ioperm", "iopl"))
    | _calls(
        "_sysctl acct bpf create_module get_kernel_syms get_mempolicy kcmp lookup_dcookie mbind move_pages name_to_handle_at nfsservctl "
        "open_by_handle_at perf_event_open process_vm_readv process_vm_writev ptrace query_module quotactl set_mempolicy setns stime sysfs "
        "unshare uselib userfaultfd ustat vm86 vm86old"
    )
)


class SystemCalls(NamedTuple):
    """`allowing`: these calls and no others, else all others. `errno` is a name, empty where a refused call kills.

    `named` are those that the isolator names itself, not by a set.
    """

    allowing: bool
    names: tuple[str, ...]
    errno: str
    named: tuple[str, ...] = ()


class _Set(NamedTuple):
    """These names, or with `inverted` all but these: a list of what is allowed grows old, and new programs make new calls."""

    names: frozenset[str]
    inverted: bool

    def union(self, other: _Set) -> _Set:
        if self.inverted and other.inverted:
            return _Set(self.names & other.names, True)
        if self.inverted:
            return _Set(self.names - other.names, True)
        if other.inverted:
            return _Set(other.names - self.names, True)
        return _Set(self.names | other.names, False)


_NONE = _Set(frozenset(), False)
_WILDCARDS = {
    "@appc.io/all": _Set(frozenset(), True),
    "@appc.io/empty": _NONE,
    **{f"@{scope}/default-blacklist": _Set(_BLACKLIST, False) for scope in ("rkt", "docker")},
    **{f"@{scope}/default-whitelist": _Set(_BLACKLIST, True) for scope in ("rkt", "docker")},
    **{f"@systemd/{name}": _Set(names, False) for name, names in _SYSTEMD.items()},
}


def system_calls(app: str, isolator: Isolator) -> SystemCalls | None:
    """What a retain or a remove set comes to, None for everything. Raises UserError for a wildcard or an errno that nobody knows."""
    import errno

    given = isolators.seccomp_set(isolator)
    if given.errno and not hasattr(errno, given.errno):
        raise UserError(f'app "{app}": isolator {isolator.name}: {given.errno} is no error of Linux', hint="EPERM and ENOSYS are usual")
    found = _NONE
    for item in given.calls:
        found = found.union(_named(app, isolator.name, item))
    retaining = isolator.name == isolators.SECCOMP_RETAIN
    if not found.names and retaining == found.inverted:
        return None  # retain all, or remove none
    allowing = retaining != found.inverted
    return SystemCalls(
        allowing=allowing,
        names=tuple(sorted(found.names | DEFAULT if allowing else found.names)),
        errno=given.errno,
        named=tuple(item for item in given.calls if not item.startswith("@")),
    )


def _named(app: str, isolator: str, item: str) -> _Set:
    if not item.startswith("@"):
        if not item.replace("_", "a").isalnum() or not item.isascii():
            raise UserError(f'app "{app}": isolator {isolator}: {item!r} is no system call')
        return _Set(frozenset((item,)), False)
    found = _WILDCARDS.get(item)
    if found is None:
        raise UserError(f'app "{app}": isolator {isolator}: {item} is not known', hint="known are " + ", ".join(sorted(_WILDCARDS)))
    return found
