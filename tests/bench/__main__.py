"""`make bench`: every benchmark in one run, a table, and build/bench.json. Ratios to a peer in the same run; the machine may be noisy."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import appliance
from bench import aci, docker, pods, start
from bench.result import Result

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"


def main() -> int:
    wanted = set(sys.argv[1:])
    if wanted == {"start-steps"}:
        print(start.run(appliance.install, progress))
        return 0
    results: list[Result] = []
    if not wanted or wanted & {"stage1-bytes"}:
        size = (BUILD / "stage1-skim.aci").stat().st_size
        results.append(Result("stage1-bytes", [size], 15_000_000, "none", "stat build/stage1-skim.aci"))
    if not wanted or wanted & {"aci-build", "aci-size"}:
        results.extend(aci.run(BUILD / "docker.aci", progress))
    if not wanted or wanted & {"docker-client", "docker-start"}:
        results.extend(docker.run(install, progress))
    if not wanted:
        write(results)  # the pods take minutes more
    if not wanted or wanted & {"run-1-app", "run-10-apps", "stop", "gc-500", "supervisor-pss"}:
        results.extend(pods.run(appliance.install, progress))
    print(table(results))
    if not wanted:
        write(results)
    return 0 if all(result.holds for result in results) else 1


def write(results: list[Result]) -> None:
    path = BUILD / "bench.json"
    path.write_text(json.dumps({result.name: result.json() for result in results}, indent=2) + "\n")
    progress(f"written to {path.relative_to(ROOT)}")


def table(results: list[Result]) -> str:
    rows: list[tuple[str, ...]] = [("name", "median", "limit", "min", "max", "runs", "against")]
    for result in results:
        found = result.json()
        numbers = (_number(found[key]) for key in ("value", "limit", "min", "max"))
        rows.append((result.name, *numbers, str(found["runs"]), result.peer + ("" if result.holds else "   <- over the limit")))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value > 1000 else f"{value:.3f}"


def install(root: Path) -> None:
    """The appliance with the engine of Debian 12, so that its peer has the same version."""
    appliance.install(root, engine=BUILD / "bench")


def progress(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if shutil.which("actool") is None:
        print("bench: actool is missing (Debian package appc-spec)", file=sys.stderr)
        sys.exit(1)
    sys.exit(main())
