"""Print every requirement that pyproject.toml names, one a line: what pip installs into the project's virtual environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
print("\n".join(requirement for group in groups for requirement in group))
