"""How fields of a manifest are read, where no systemd is needed to see it."""

from __future__ import annotations

import ast
import itertools
import os
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc import isolators
from appc.errors import UserError
from appc.isolators import Isolator
from linux import privileges
from linux.privileges import unknown_calls
from pod_directories import UUID, add_program, app_entry, app_root, app_section, make_pod
from stage1_skim import arguments, quoting
from stage1_skim.cgroups import ControlGroups, control_groups
from stage1_skim.launch import app_launch
from stage1_skim.limits import Limits, Rules, app_limits
from stage1_skim.order import start_order
from stage1_skim.pod import read_pod
from stage1_skim.request import FLAGS, read_request, refuse, unsupported_flags
from stage1_skim.sockets import app_sockets, inherited_sockets
from stage1_skim.system_calls import _WILDCARDS, DEFAULT, SystemCalls, system_calls

ROOT = Path(__file__).parents[2]
BOTH = frozenset(("cpu", "memory"))


# -- order -------------------------------------------------------------------------------------------------------------------------------


def order(tmp_path: Path, **after: str | None) -> list[str]:
    entries = [
        app_entry(name, app_section("/x"), annotations={} if value is None else {"skim/after": value}) for name, value in after.items()
    ]
    return [turn.app.name for turn in start_order(read_pod(str(make_pod(tmp_path / "pod", *entries)), UUID))]


def test_the_list_is_the_order_where_nothing_is_said(tmp_path: Path) -> None:
    assert order(tmp_path, a=None, b=None, c=None) == ["a", "b", "c"]


def test_an_app_moves_behind_those_it_names(tmp_path: Path) -> None:
    assert order(tmp_path, a="c , b", b="", c="") == ["b", "c", "a"]


@pytest.mark.parametrize("after", [{"a": "b", "b": None}, {"a": "a"}, {"a": "c", "b": "a", "c": "b"}])
def test_a_circle_is_refused(tmp_path: Path, after: dict[str, str | None]) -> None:
    with pytest.raises(UserError, match=r"apps wait for each other: .* after "):
        order(tmp_path, **after)


# -- isolators ---------------------------------------------------------------------------------------------------------------------------


def limits(tmp_path: Path, *given: tuple[str, Any], launcher: bool = False, is_root: bool = True, **rules: Any) -> Limits:
    app = app_section("/x", isolators=[{"name": name, "value": value} for name, value in given])
    pod = read_pod(str(make_pod(tmp_path / "pod", app_entry("a", app))), UUID)
    return app_limits(pod.apps[0], Rules(**{"groups": ControlGroups(True, BOTH), **rules}), launcher=launcher, is_root=is_root)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (512, 50), (1024, 100), (2048, 200), (262144, 10000)])
def test_cpu_shares_keep_their_proportion_to_everybody_elses(tmp_path: Path, shares: int, weight: int) -> None:
    assert limits(tmp_path, ("os/linux/cpu-shares", shares)).directives == (f"CPUWeight={weight}",)
    first = limits(tmp_path / "1", ("os/linux/cpu-shares", shares), groups=ControlGroups(False, BOTH))
    assert first.directives == (f"CPUShares={shares}",)


@pytest.mark.parametrize(("cpu", "quota"), [("1", "100%"), ("250m", "25%"), ("1m", "1%"), ("2500m", "250%")])
def test_cpu_is_a_quota(tmp_path: Path, cpu: str, quota: str) -> None:
    assert limits(tmp_path, ("resource/cpu", {"limit": cpu})).directives == (f"CPUQuota={quota}",)


def test_a_request_without_a_limit_limits_nothing(tmp_path: Path) -> None:
    assert limits(tmp_path, ("resource/memory", {"request": "1G"})).directives == ()


def test_what_the_kernel_cannot_limit_is_named(tmp_path: Path) -> None:
    found = limits(tmp_path, ("resource/memory", {"limit": "1G"}), ("os/linux/cpu-shares", 2), groups=ControlGroups(True, frozenset()))
    assert found.directives == ()
    assert [("memory controller" in line, "cpu controller" in line) for line in found.warnings] == [(True, False), (False, True)]


def test_the_launcher_gives_up_what_systemd_would_take_too_early(tmp_path: Path) -> None:
    asked = [
        ("os/linux/capabilities-retain-set", {"set": ["CAP_CHOWN"]}),
        ("os/linux/seccomp-remove-set", {"set": ["reboot"], "errno": "EPERM"}),
    ]
    found = limits(tmp_path, *asked, launcher=True, is_root=False)
    assert found.directives == ("NoNewPrivileges=yes",)
    assert found.given_up == tuple(range(1, 64))
    assert found.calls == SystemCalls(allowing=False, names=("reboot",), errno="EPERM", named=("reboot",))
    insecure = limits(tmp_path / "2", *asked, launcher=True, is_root=False, all_capabilities=True, all_system_calls=True)
    assert insecure == Limits(directives=(), given_up=(), calls=None, warnings=())


def test_a_system_call_that_nobody_knows_is_named(tmp_path: Path) -> None:
    if unknown_calls(["no_such_call"]) == []:
        pytest.skip("no libseccomp on this machine")
    for launcher in (False, True):
        asked = ("os/linux/seccomp-remove-set", {"set": ["mkdirr", "mkdir", "@rkt/default-blacklist"], "errno": "EPERM"})
        found = limits(tmp_path / str(launcher), asked, launcher=launcher)
        assert found.warnings == ('app "a": mkdirr is no system call that this host knows, and it is ignored',)


@pytest.mark.parametrize("allowing", [False, True])
def test_every_call_of_our_lists_can_be_filtered(allowing: bool) -> None:
    if unknown_calls(["no_such_call"]) == []:
        pytest.skip("no libseccomp on this machine")
    names = sorted(set().union(*(found.names for found in _WILDCARDS.values())))
    privileges._filter(privileges.CallFilter(allowing=allowing, calls=names, errno=1))
    assert set(unknown_calls(names)) < {"epoll_ctl_old", "epoll_wait_old", "swapcontext", "tuxcall"}


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "memory").mkdir()
    assert control_groups(str(tmp_path)) == ControlGroups(False, frozenset(("cpu", "cpuacct", "memory")))
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    assert control_groups(str(tmp_path)) == ControlGroups(True, frozenset(("cpuset", "cpu", "io", "memory")))


# -- system calls ------------------------------------------------------------------------------------------------------------------------

ITEMS = ["@appc.io/all", "@appc.io/empty", "@rkt/default-whitelist", "@docker/default-blacklist", "@systemd/clock", "@systemd/mount"]
CALLS = ["reboot", "mount", "mkdir", "adjtimex", "chroot", "write", "clone3"]
MEANING = {
    "@appc.io/all": set(CALLS),
    "@appc.io/empty": set(),
    "@rkt/default-whitelist": {"mkdir", "chroot", "write", "clone3"},
    "@docker/default-blacklist": {"reboot", "mount", "adjtimex"},
    "@systemd/clock": {"adjtimex"},
    "@systemd/mount": {"mount", "chroot"},
}


def allowed(kind: str, items: list[str]) -> set[str]:
    """Which of a few calls may be made."""
    found = system_calls("a", Isolator(name=f"os/linux/seccomp-{kind}-set", value={"set": list[Any](items)}))
    if found is None:
        return set(CALLS)
    return {call for call in CALLS if (call in found.names) == found.allowing}


@given(st.lists(st.sampled_from(ITEMS + CALLS), min_size=1, max_size=4))
def test_sets_mean_their_union(items: list[str]) -> None:
    union = set().union(*(MEANING.get(item, {item}) for item in items))
    assert allowed("retain", items) == union
    assert allowed("remove", items) == set(CALLS) - union


def test_a_list_of_what_is_allowed_has_what_every_program_needs() -> None:
    found = system_calls("a", Isolator(name=isolators.SECCOMP_RETAIN, value={"set": ["write"]}))
    assert found is not None
    assert set(found.names) == DEFAULT | {"write"}


# -- quoting -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\ufdd0", "x\uffff", "\U0001fffe"])
def test_what_is_no_character_goes_by_the_launcher(text: str) -> None:
    assert not quoting.is_text(text)
    assert not quoting.is_plain_assignment("A", text)


@pytest.mark.parametrize(("path", "plain"), [("/bin/a b", True), ("/bin/é", True), ('/bin/"', False), ("/a\\b", False), ("/a\nb", False)])
def test_what_systemd_takes_for_a_program(path: str, plain: bool) -> None:
    assert quoting.is_plain_program(path) is plain


@pytest.mark.parametrize(
    ("fields", "launcher"),
    [
        ({}, False),
        ({"environment": [{"name": "a.b-c", "value": "1"}]}, True),
        ({"environment": [{"name": "A", "value": "\x01"}]}, True),
        ({"environment": [{"name": "A", "value": "$ % \" '\n"}]}, False),
        ({"exec": ["/x", "y" * 100_000]}, True),
        ({"user": "1"}, True),
        ({"supplementaryGIDs": [5]}, True),
    ],
)
def test_the_launcher_is_taken_where_systemd_cannot_say_it(tmp_path: Path, fields: dict[str, Any], launcher: bool) -> None:
    pod = make_pod(tmp_path / "pod", app_entry("a", {**app_section("/x"), **fields}))
    add_program(app_root(pod, "a"), "/x")
    read = read_pod(str(pod), UUID)
    assert app_launch(read, read.apps[0], {}).needs_launcher is launcher


# -- flags -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", list(itertools.chain.from_iterable(([f"--{name}=1"], [f"-{name}=true"]) for name in FLAGS)))
def test_every_flag_is_taken(flags: list[str]) -> None:
    assert arguments.parse([*flags, UUID], FLAGS).rest == (UUID,)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--net=host"], []),
        (["--net=default"], []),
        (["--net=none"], ["--net=none"]),
        (["--hostname=h", "--ipc=auto"], ["--hostname=h", "--ipc=auto"]),
        (["--ipc=parent", "--local-config=/etc/rkt", "--disable-paths", "--mds-token=t"], []),
        (["--dns-conf-mode=resolv=host,hosts=default"], []),
        (["--dns-conf-mode=resolv=none,hosts=default"], ["--dns-conf-mode=resolv=none,hosts=default"]),
        (["--private-users=1:2"], ["--private-users=1:2"]),
    ],
)
def test_what_cannot_be_honoured_is_named(flags: list[str], named: list[str]) -> None:
    assert [line.split()[0] for line in unsupported_flags(arguments.parse(flags, FLAGS))] == named


def test_mutable_pods_are_refused() -> None:
    with pytest.raises(UserError, match="mutable pods are not supported"):
        refuse(arguments.parse(["--mutable"], FLAGS))


def test_sockets_are_looked_at_only_where_an_app_takes_them(tmp_path: Path) -> None:
    ports = [{"name": "http", "protocol": "tcp", "port": 80, "socketActivated": True}]

    def sockets(**fields: Any) -> str:
        pod = read_pod(str(make_pod(tmp_path / f"{len(fields)}", app_entry("a", app_section("/x", **fields)))), UUID)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web.socket"}
        return repr([tuple(item) for item in read_request(arguments.parse([], FLAGS), environment, pod).sockets])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert with_descriptor_3(listening, lambda: sockets(ports=ports)) == repr([("web.socket", "tcp", port)])
        assert with_descriptor_3(listening, sockets) == "[]"


def test_a_socket_of_systemds_is_known_by_its_port() -> None:
    def inherited(**environment: str) -> str:
        given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web.socket:other", **environment}
        return repr([tuple(item) for item in inherited_sockets(given)])

    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        assert with_descriptor_3(tcp, inherited) == repr([("web.socket", "tcp", tcp.getsockname()[1])])
        assert with_descriptor_3(udp, inherited) == repr([("web.socket", "udp", udp.getsockname()[1])])
        assert with_descriptor_3(tcp, lambda: inherited(LISTEN_PID="1")) == "[]"
        assert with_descriptor_3(tcp, lambda: inherited(LISTEN_FDNAMES="web")) == "[]"


def with_descriptor_3(opened: socket.socket, look: Callable[[], str]) -> str:
    """What `look` says in a process whose descriptor 3 it is, as systemd hands it over."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 10)
            os.dup2(opened.fileno(), 3)
            os.closerange(4, 10)
            os.write(10, look().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    return said


@pytest.mark.parametrize(("unit", "bound"), [("", True), ("[Service]\nRestart=no\n", True), ("[Service]\nRestart=on-failure\n", False)])
def test_a_socket_outlives_a_run_of_its_service_only_where_another_follows(tmp_path: Path, unit: str, bound: bool) -> None:
    ports = [{"name": "http", "protocol": "tcp", "port": 80, "socketActivated": True}]
    entry = app_entry("a", app_section("/x", ports=ports), annotations={"skim/unit": unit} if unit else {})
    pod = read_pod(str(make_pod(tmp_path / "pod", entry)), UUID)
    made = app_sockets(pod, pod.apps[0], ()).unit
    assert made is not None
    assert (f"\nBindsTo={pod.scope} {pod.service('a')}\n" in made.text) is bound
    assert f"\nBindsTo={pod.scope}" in made.text


# -- faults of the first prototype (docs/stage1.md) --------------------------------------------------------------------------------------


def test_a_pod_without_apps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the pod has no apps"):
        read_pod(str(make_pod(tmp_path / "pod")), UUID)


def test_no_program_of_the_host_is_needed() -> None:
    """Nothing is spawned, and no path of systemctl, a shell or kill is written anywhere."""
    for module in (ROOT / "stage1_skim").glob("*.py"):
        text = module.read_text()
        for name in ("/usr/bin/systemctl", "systemd-run", "/usr/bin/kill", "linux.process", "os.fork", "os.system", "posix_spawn"):
            assert name not in text, module.name


def test_the_image_says_what_it_is() -> None:
    recipe = tomllib.loads((ROOT / "aci-build/recipes/stage1-skim.toml").read_text())
    assert {"/rkt/status", "/rkt/env", "/opt/stage2"} <= {directory["path"] for directory in recipe["directory"]}
    links = {link["path"] for link in recipe["link"]}
    entrypoints = {name.rpartition("/")[2]: path for name, path in recipe["annotations"].items()}
    assert int(entrypoints.pop("interface-version")) >= 5
    assert set(entrypoints) == {"run", "enter", "stop", "gc"}
    assert set(entrypoints.values()) <= links


def test_every_fault_has_a_test_that_is_there() -> None:
    """The table in docs/stage1.md: all 48, and each test that it names exists."""
    rows = dict(re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs/stage1.md").read_text(), re.MULTILINE))
    assert sorted(map(int, rows)) == list(range(1, 49))
    for number, cell in rows.items():
        named = re.findall(r"`(tests/)?(\w+/test_\w+)::(\w+)`", cell)
        assert named, number
        for _, module, test in named:
            tree = ast.parse((ROOT / f"tests/{module}.py").read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            assert test in names, f"fault {number}: {module} has no {test}"
