"""The layer rule: programs import the base packages and never each other; and what starts a pod imports little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from golden.test_stage1_plans import not_root, two_apps
from pod_directories import UUID

ROOT = Path(__file__).parents[2]
SOURCES = {
    "appc": ROOT / "appc",
    "linux": ROOT / "linux",
    "poddir": ROOT / "poddir",
    "stage0": ROOT / "stage0",
    "stage1_skim": ROOT / "stage1_skim",
    "engine": ROOT / "engine",
    "aci_build": ROOT / "aci-build/aci_build",
}
MAY_IMPORT = {
    "appc": set(),
    "linux": {"appc"},
    "poddir": {"appc", "linux"},
    "stage0": {"appc", "linux", "poddir"},
    "stage1_skim": {"appc", "linux", "poddir"},
    "engine": {"appc", "linux", "poddir"},
    "aci_build": {"appc", "linux"},
}


def imported_packages(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", SOURCES)
def test_imports_follow_the_layers(package: str) -> None:
    modules = sorted(SOURCES[package].rglob("*.py"))
    assert modules
    for module in modules:
        wrong = (imported_packages(module) & SOURCES.keys()) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{module.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_only_one_module_spawns_and_one_mounts() -> None:
    for package, folder in SOURCES.items():
        for module in folder.rglob("*.py"):
            imported = imported_packages(module)
            if (package, module.name) != ("linux", "process.py"):
                assert "subprocess" not in imported, module
            if package != "linux" and (package, module.name) != ("stage1_skim", "bus.py"):
                assert "ctypes" not in imported, module


@pytest.mark.parametrize("entrypoint", ["run", "enter", "stop", "gc", "launch_app"])
def test_what_starts_a_pod_imports_little(entrypoint: str) -> None:
    """Each of these costs a pod milliseconds at every start; what a rare case needs is imported where it is needed."""
    slow = [
        "argparse",
        "asyncio",
        "dataclasses",
        "email",
        "inspect",
        "logging",
        "pathlib",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
    ]
    program = f"import sys; import stage1_skim.{entrypoint}; print(*[name for name in {slow!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


# How many modules there may be when an entrypoint has been imported by an interpreter that has 23 itself: what was counted, and four.
MODULES = {
    "stage1_skim.run": 118,
    "stage1_skim.enter": 100,
    "stage1_skim.stop": 83,
    "stage1_skim.gc": 82,
    "stage1_skim.launch_app": 76,
    "stage0.run_command": 112,
    "stage0.stop_command": 91,
    "stage0.gc_command": 80,
}
PLAN = """
from stage1_skim.cgroups import ControlGroups
from stage1_skim.limits import Rules
from stage1_skim.plan import make_plan
from stage1_skim.pod import read_pod
from stage1_skim.request import Request
from stage1_skim.units import Streams
request = Request(inherited={{}}, rules=Rules(groups=ControlGroups(True, frozenset(("cpu", "memory")))))
plan = make_plan(read_pod({directory!r}, {uuid!r}), request, streams=lambda app: Streams(stdout="journal", stderr="journal"))
assert len(plan.apps) == 2
"""


def modules_after(program: str) -> list[str]:
    """Names of all modules that are there when the program has run, without those that a site brings."""
    whole = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}\nprint(*sys.modules)"
    return subprocess.run([sys.executable, "-I", "-S", "-c", whole], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("entrypoint", MODULES)
def test_the_number_of_imports_on_the_way(entrypoint: str) -> None:
    """A start pays 0.1 to 0.5 ms for each. A number that grows is raised here on purpose, or the import moves to where it is needed."""
    found = modules_after(f"import {entrypoint}")
    assert len(found) <= MODULES[entrypoint], found


def test_a_plain_pod_is_planned_with_what_run_has_imported(tmp_path: Path) -> None:
    """What only some pods need is imported for them alone, and no pod's plan needs much."""
    pod = two_apps(tmp_path / "pod")
    found = modules_after("import stage1_skim.run\n" + PLAN.format(directory=str(pod), uuid=UUID))
    assert len(found) <= MODULES["stage1_skim.run"], found
    known = not_root(tmp_path / "other")
    program = PLAN.format(directory=str(known), uuid=UUID).replace("== 2", "== 1")
    assert len(modules_after("import stage1_skim.run\n" + program)) <= MODULES["stage1_skim.run"] + 14
