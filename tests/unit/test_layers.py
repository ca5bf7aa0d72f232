"""The layer rule: programs import the base packages and never each other; and what starts a pod imports little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
