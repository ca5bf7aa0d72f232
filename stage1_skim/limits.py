"""Isolators as unit directives (contract section 5.3, in systemd 252's spelling; systemd.resource-control(5), systemd.exec(5)).

An app keeps every capability and every system call unless its manifest says otherwise: full access to the host is what this stage1 is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from appc import isolators
from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.isolators import Isolator
    from appc.quantity import Quantity
    from stage1_skim.cgroups import ControlGroups
    from stage1_skim.pod import PodApp
    from stage1_skim.system_calls import SystemCalls

_NOT_HONOURED = (
    isolators.SELINUX_CONTEXT,
    isolators.SYSCTL,
    isolators.BLOCK_BANDWIDTH,
    isolators.BLOCK_IOPS,
    isolators.NETWORK_BANDWIDTH,
)
_CALLS_IN_A_LINE = 8
_DEFAULT_SHARES = 1024  # which is systemd's CPUWeight=100


class Rules(NamedTuple):
    """What is asked of `run` for all apps: whether restrictions are off (--insecure-options), and what the host can limit."""

    groups: ControlGroups
    all_capabilities: bool = False
    all_system_calls: bool = False


class Limits(NamedTuple):
    """`directives` are lines for [Service]. The launcher does what is left: give up capabilities, by their numbers, and filter calls."""

    directives: tuple[str, ...]
    given_up: tuple[int, ...]
    calls: SystemCalls | None
    warnings: tuple[str, ...]


def app_limits(app: PodApp, rules: Rules, *, launcher: bool, is_root: bool) -> Limits:
    """The last isolator of a name counts. Raises UserError for a combination that contradicts itself.

    With `launcher` the app's process starts as root and becomes what it is: capabilities and system calls are for that to give up, not
    for systemd, which would take from the launcher what it needs.
    """
    found: dict[str, Isolator] = {isolator.name: isolator for isolator in app.app.isolators}
    directives, warnings = _resources(app, found, rules.groups)
    if isolators.OOM_SCORE_ADJ in found:
        directives.append(f"OOMScoreAdjust={isolators.number(found[isolators.OOM_SCORE_ADJ])}")
    calls = None if rules.all_system_calls else _system_calls(app, found)
    if calls:
        warnings.extend(_unknown_calls(app, calls))
    wanted = isolators.NO_NEW_PRIVILEGES in found and isolators.flag(found[isolators.NO_NEW_PRIVILEGES])
    if wanted or (calls and not is_root):  # Linux lets nobody but root filter what a setuid program does
        directives.append("NoNewPrivileges=yes")
    bounding = None if rules.all_capabilities else _bounding_set(app, found)
    given_up: tuple[int, ...] = ()
    if launcher:
        given_up = bounding.given_up if bounding else ()
    else:
        directives.extend([bounding.directive] if bounding else [])
        directives.extend(_filter(calls) if calls else [])
        calls = None
    warnings.extend(_not_honoured(app, name) for name in _NOT_HONOURED if name in found)
    return Limits(directives=tuple(directives), given_up=given_up, calls=calls, warnings=tuple(warnings))


def _resources(app: PodApp, found: Mapping[str, Isolator], groups: ControlGroups) -> tuple[list[str], list[str]]:
    directives, warnings = [], []
    memory = _limit(found.get(isolators.MEMORY))
    if memory is not None:
        directives.append(("memory", isolators.MEMORY, f"MemoryMax={memory.whole()}"))
    cpu = _limit(found.get(isolators.CPU))
    if cpu is not None:
        directives.append(("cpu", isolators.CPU, f"CPUQuota={max(1, -(-cpu.milli() // 10))}%"))
    if isolators.CPU_SHARES in found:
        shares = isolators.number(found[isolators.CPU_SHARES])
        weight = max(1, min(10000, round(shares * 100 / _DEFAULT_SHARES)))
        directives.append(("cpu", isolators.CPU_SHARES, f"CPUWeight={weight}" if groups.unified else f"CPUShares={shares}"))
    lines = []
    for controller, isolator, line in directives:
        if controller in groups.controllers:
            lines.append(line)
        else:
            warnings.append(f'app "{app.name}": isolator {isolator}: the host\'s kernel has no {controller} controller, and it is ignored')
    return lines, warnings


def _limit(isolator: Isolator | None) -> Quantity | None:
    return isolators.resource(isolator).limit if isolator else None


class _BoundingSet(NamedTuple):
    directive: str
    given_up: tuple[int, ...]


def _bounding_set(app: PodApp, found: Mapping[str, Isolator]) -> _BoundingSet | None:
    retain, remove = found.get(isolators.CAPABILITIES_RETAIN), found.get(isolators.CAPABILITIES_REMOVE)
    if retain and remove:
        raise UserError(f'app "{app.name}": both a retain-set and a remove-set of capabilities', hint="give one of them")
    isolator = retain or remove
    if isolator is None:
        return None
    from linux.privileges import CAPABILITIES, MOST_CAPABILITIES

    named = isolators.capabilities(isolator)
    unknown = [name for name in named if name not in CAPABILITIES]
    if unknown:
        raise UserError(f'app "{app.name}": isolator {isolator.name}: {", ".join(unknown)} is no capability of Linux (capabilities(7))')
    numbers = {CAPABILITIES.index(name) for name in named}
    return _BoundingSet(
        directive=f"CapabilityBoundingSet={'~' if remove else ''}{' '.join(named)}",
        given_up=tuple(number for number in range(MOST_CAPABILITIES) if (number in numbers) == bool(remove)),
    )


def _system_calls(app: PodApp, found: Mapping[str, Isolator]) -> SystemCalls | None:
    isolator = found.get(isolators.SECCOMP_RETAIN) or found.get(isolators.SECCOMP_REMOVE)
    if isolator is None:
        return None
    from stage1_skim.system_calls import system_calls  # long tables that few pods ask for

    return system_calls(app.name, isolator)


def _unknown_calls(app: PodApp, calls: SystemCalls) -> list[str]:
    if not calls.named:
        return []
    from linux.privileges import unknown_calls

    return [f'app "{app.name}": {name} is no system call that this host knows, and it is ignored' for name in unknown_calls(calls.named)]


def _filter(calls: SystemCalls) -> list[str]:
    lines = [f"SystemCallErrorNumber={calls.errno}"] if calls.errno else []
    for start in range(0, len(calls.names), _CALLS_IN_A_LINE):
        some = " ".join(calls.names[start : start + _CALLS_IN_A_LINE])
        lines.append(f"SystemCallFilter={'' if calls.allowing else '~'}{some}")
    return lines


def _not_honoured(app: PodApp, isolator: str) -> str:
    return f'app "{app.name}": isolator {isolator} is not supported by stage1_skim, and ignored'
