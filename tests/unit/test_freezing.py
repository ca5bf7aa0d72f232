"""The PyInstaller recipes' pure part, and that what runs before a frozen program leaves the caller's environment as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from freeze import freezing

ROOT = Path(__file__).parents[2]


def test_only_the_codecs_in_use_are_kept() -> None:
    datas = [(f"encodings/{name}.pyc", "", "DATA") for name in ("__init__", "utf_8", "cp437", "idna")] + [("os.pyc", "", "DATA")]
    assert [name for name, _, _ in freezing.without_codecs(datas)] == ["encodings/__init__.pyc", "encodings/utf_8.pyc", "os.pyc"]


def test_stock_hooks_are_left_out() -> None:
    scripts = [("clean_environment", "", "PYSOURCE"), ("pyi_rth_inspect", "", "PYSOURCE"), ("rkt", "", "PYSOURCE")]
    assert [name for name, _, _ in freezing.without_stock_hooks(scripts)] == ["clean_environment", "rkt"]


def test_modules_imported_by_name_are_found() -> None:
    assert "stage0.version_command" in freezing.modules_of("stage0")
    assert not [name for name in freezing.modules_of("stage0") if "__" in name]


def test_environment_is_the_callers() -> None:
    code = "import json, os, runpy; runpy.run_path('freeze/clean_environment.py'); print(json.dumps(dict(os.environ)))"
    mine = {"PATH": os.environ["PATH"], "A": "b"}
    for extra, expected in (
        ({"LD_LIBRARY_PATH": "/bundle"}, {}),
        ({"LD_LIBRARY_PATH": "/bundle:/x", "LD_LIBRARY_PATH_ORIG": "/x"}, {"LD_LIBRARY_PATH": "/x"}),
    ):
        environment = {**mine, **extra, "_PYI_ARCHIVE_FILE": "/a", "_PYI_PARENT_PROCESS_LEVEL": "1"}
        done = subprocess.run([sys.executable, "-I", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        found.pop("LC_CTYPE", None)  # the interpreter's own (PEP 538)
        assert found == {**mine, **expected}
