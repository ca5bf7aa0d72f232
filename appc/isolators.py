"""Isolators: their rules (contract section 8.4), typed readings of their values, and the ones that stage0's options make (section 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from appc.document import Fields, keyed
from appc.errors import UserError
from appc.names import is_ac_identifier
from appc.quantity import Quantity, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from appc.document import Json
    from appc.errors import Problem

CAPABILITIES_RETAIN = "os/linux/capabilities-retain-set"
CAPABILITIES_REMOVE = "os/linux/capabilities-remove-set"
NO_NEW_PRIVILEGES = "os/linux/no-new-privileges"
SECCOMP_RETAIN = "os/linux/seccomp-retain-set"
SECCOMP_REMOVE = "os/linux/seccomp-remove-set"
OOM_SCORE_ADJ = "os/linux/oom-score-adj"
CPU_SHARES = "os/linux/cpu-shares"
SELINUX_CONTEXT = "os/linux/selinux-context"
SYSCTL = "os/unix/sysctl"
CPU = "resource/cpu"
MEMORY = "resource/memory"
BLOCK_BANDWIDTH = "resource/block-bandwidth"
BLOCK_IOPS = "resource/block-iops"
NETWORK_BANDWIDTH = "resource/network-bandwidth"

Reading = TypeVar("Reading")

_SINGLE = frozenset((SECCOMP_RETAIN, SECCOMP_REMOVE, OOM_SCORE_ADJ, CPU_SHARES, SELINUX_CONTEXT, SYSCTL))
_KNOWN = keyed(("name", "value"))
_SET_FIELDS = keyed(("set", "errno"))
_RESOURCE_FIELDS = keyed(("default", "request", "limit"))
_SELINUX_FIELDS = keyed(("user", "role", "type", "level"))


class Isolator(NamedTuple):
    """`value` is the JSON value as it stood in the document; the functions below read it."""

    name: str
    value: Json


class Resource(NamedTuple):
    """The value of a resource/* isolator. Executors use the limit alone (contract section 5.3)."""

    default: bool
    request: Quantity | None
    limit: Quantity | None


class SeccompSet(NamedTuple):
    """System calls and wildcards (`@docker/default-whitelist`), and the errno's name, empty for the executor's own."""

    calls: tuple[str, ...]
    errno: str


class SELinuxContext(NamedTuple):
    user: str
    role: str
    type: str
    level: str


def parse_isolator(value: Json, path: str, problems: list[Problem]) -> Isolator:
    """An isolator of an app: its name must be known, its value hold."""
    isolator = parse_pod_isolator(value, path, problems)
    check = _CHECKS.get(isolator.name)
    if check is not None:
        check(isolator.value, f"{path}.value", problems)
    elif isolator.name:
        Fields({}, path, problems, _KNOWN).problem("name", f'invalid isolator "{isolator.name}"')
    return isolator


def parse_pod_isolator(value: Json, path: str, problems: list[Problem]) -> Isolator:
    """An isolator of a pod: rkt does not look into those."""
    fields = Fields(value, path, problems, _KNOWN)
    name = fields.string("name", required=True, check=is_ac_identifier, expected="an AC identifier")
    return Isolator(name=name, value=fields.values.get("value"))


def check_combination(isolators: Sequence[Isolator], fields: Fields) -> None:
    """Which isolators may not repeat, and the two seccomp sets that exclude each other."""
    seen: set[str] = set()
    for index, isolator in enumerate(isolators):
        if isolator.name in _SINGLE and isolator.name in seen:
            fields.problem(f"isolators[{index}].name", f'too many isolators "{isolator.name}": only one is allowed')
        seen.add(isolator.name)
        if isolator.name in (SECCOMP_RETAIN, SECCOMP_REMOVE) and {SECCOMP_RETAIN, SECCOMP_REMOVE} <= seen:
            fields.problem(f"isolators[{index}].name", "seccomp retain and remove sets exclude each other")
            return


def last_isolator(isolators: Iterable[Isolator], name: str) -> Isolator | None:
    """Of several isolators of one name the last counts (contract section 4.3)."""
    found = None
    for isolator in isolators:
        if isolator.name == name:
            found = isolator
    return found


# Typed readings. The values were checked when the manifest was parsed; one made by hand that does not hold raises UserError.


def resource(isolator: Isolator) -> Resource:
    return _read(isolator, _parse_resource)


def capabilities(isolator: Isolator) -> tuple[str, ...]:
    """The set's names as written (CAP_SYS_ADMIN)."""
    return _read(isolator, _parse_set).calls


def seccomp_set(isolator: Isolator) -> SeccompSet:
    return _read(isolator, _parse_set)


def selinux_context(isolator: Isolator) -> SELinuxContext:
    return _read(isolator, _parse_selinux)


def sysctls(isolator: Isolator) -> dict[str, str]:
    return _read(isolator, _parse_sysctls)


def number(isolator: Isolator) -> int:
    """The value of oom-score-adj and cpu-shares."""
    return _read(isolator, _parse_oom_score if isolator.name == OOM_SCORE_ADJ else _parse_cpu_shares)


def flag(isolator: Isolator) -> bool:
    """The value of no-new-privileges."""
    return _read(isolator, _parse_flag)


# Isolators as stage0's options make them. Raise UserError.


def resource_isolator(name: str, amount: str) -> Isolator:
    """For --memory and --cpu: request and limit alike, in canonical form."""
    try:
        canonical = str(parse_quantity(amount))
    except ValueError as error:
        raise UserError(f'"{amount}" {error}') from None
    return Isolator(name=name, value={"default": False, "request": canonical, "limit": canonical})


def number_isolator(name: str, value: int) -> Isolator:
    """For --cpu-shares and --oom-score-adj."""
    return _checked(Isolator(name=name, value=value))


def capabilities_isolator(name: str, names: Sequence[str]) -> Isolator:
    return _checked(Isolator(name=name, value={"set": list(names)}))


def seccomp_isolator(name: str, calls: Sequence[str], errno: str = "") -> Isolator:
    return _checked(Isolator(name=name, value={"set": list(calls), "errno": errno}))


def _checked(isolator: Isolator) -> Isolator:
    _read(isolator, _CHECKS[isolator.name])
    return isolator


def _read(isolator: Isolator, parse: Callable[[Json, str, list[Problem]], Reading]) -> Reading:
    problems: list[Problem] = []
    reading = parse(isolator.value, "", problems)
    if problems:
        raise UserError(f"isolator {isolator.name}: " + "; ".join(str(problem) for problem in problems))
    return reading


def _parse_resource(value: Json, path: str, problems: list[Problem]) -> Resource:
    fields = Fields(value, path, problems, _RESOURCE_FIELDS)
    quantities = []
    for name in ("request", "limit"):
        written = fields.values.get(name)
        quantity = None
        if isinstance(written, str | int | float) and not isinstance(written, bool):
            try:
                quantity = parse_quantity(str(written).strip())
            except ValueError as error:
                fields.problem(name, f'"{written}" {error}')
        elif written is not None:
            fields.problem(name, "must be a quantity")
        quantities.append(quantity)
    return Resource(default=fields.boolean("default") or False, request=quantities[0], limit=quantities[1])


def _parse_default_resource(value: Json, path: str, problems: list[Problem]) -> Resource:
    """block-* and network-bandwidth: a default for every device, without a request."""
    reading = _parse_resource(value, path, problems)
    fields = Fields({}, path, problems, _RESOURCE_FIELDS)
    if not reading.default:
        fields.problem("default", "must be true")
    if reading.request is not None:
        fields.problem("request", "is not supported by this resource, must be empty")
    return reading


def _parse_amount(value: Json, path: str, problems: list[Problem]) -> Resource:
    reading = _parse_resource(value, path, problems)
    if reading.default:
        Fields({}, path, problems, _RESOURCE_FIELDS).problem("default", "must be false")
    return reading


def _parse_set(value: Json, path: str, problems: list[Problem]) -> SeccompSet:
    fields = Fields(value, path, problems, _SET_FIELDS)
    reading = SeccompSet(calls=fields.strings("set"), errno=fields.string("errno"))
    if isinstance(value, dict) and not fields.values.get("set"):
        fields.problem("set", "must be non-empty")
    return reading


def _parse_seccomp(value: Json, path: str, problems: list[Problem]) -> SeccompSet:
    reading = _parse_set(value, path, problems)
    errno = reading.errno
    if errno and not (errno[0] == "E" and all(character.isupper() or character.isnumeric() for character in errno)):
        message = f'"{errno}" must start with E and contain only upper case letters and numbers'
        Fields({}, path, problems, _SET_FIELDS).problem("errno", message)
    return reading


def _parse_selinux(value: Json, path: str, problems: list[Problem]) -> SELinuxContext:
    fields = Fields(value, path, problems, _SELINUX_FIELDS)

    def part(name: str) -> str:
        return fields.string(name, required=True, check=lambda text: ":" not in text, expected="free of colons")

    return SELinuxContext(user=part("user"), role=part("role"), type=part("type"), level=fields.string("level", required=True))


def _parse_sysctls(value: Json, path: str, problems: list[Problem]) -> dict[str, str]:
    parent, _, name = path.rpartition(".")
    return Fields({name: value}, parent, problems, {name: name}).string_map(name)


def _parse_number(value: Json, path: str, problems: list[Problem], low: int, high: int) -> int:
    parent, _, name = path.rpartition(".")
    return Fields({name: value}, parent, problems, {name: name}).integer(name, required=True, low=low, high=high) or 0


def _parse_oom_score(value: Json, path: str, problems: list[Problem]) -> int:
    return _parse_number(value, path or "value", problems, -1000, 1000)


def _parse_cpu_shares(value: Json, path: str, problems: list[Problem]) -> int:
    return _parse_number(value, path or "value", problems, 2, 262144)


def _parse_flag(value: Json, path: str, problems: list[Problem]) -> bool:
    parent, _, name = (path or "value").rpartition(".")
    return Fields({name: value}, parent, problems, {name: name}).boolean(name) or False


_CHECKS: dict[str, Callable[[Json, str, list[Problem]], object]] = {
    CAPABILITIES_RETAIN: _parse_set,
    CAPABILITIES_REMOVE: _parse_set,
    NO_NEW_PRIVILEGES: _parse_flag,
    SECCOMP_RETAIN: _parse_seccomp,
    SECCOMP_REMOVE: _parse_seccomp,
    OOM_SCORE_ADJ: _parse_oom_score,
    CPU_SHARES: _parse_cpu_shares,
    SELINUX_CONTEXT: _parse_selinux,
    SYSCTL: _parse_sysctls,
    CPU: _parse_amount,
    MEMORY: _parse_amount,
    BLOCK_BANDWIDTH: _parse_default_resource,
    BLOCK_IOPS: _parse_default_resource,
    NETWORK_BANDWIDTH: _parse_default_resource,
}
