"""The command line of aci-build, parsed once into a frozen value."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION = """\
Builds an App Container Image (.aci) as a recipe says. A recipe is a TOML file that names the image, where its files come from (packages
of a Debian suite, a directory, or a tarball), which programs and files to keep, the image manifest's app section, and annotations.

The programs' libraries are collected with their loader into one directory of the image, and the programs are changed to use those and no
others, so that they run on any host from wherever the image is unpacked. The same input gives the same bytes.
"""

EXAMPLES = """\
examples:
  aci-build aci-build/recipes/docker.toml --output build/docker.aci
      Docker from Debian 13's packages, fetched from this machine's mirror
  aci-build aci-build/recipes/docker.toml --suite bookworm --output build/docker.aci
      the same from Debian 12
  aci-build aci-build/recipes/stage1-skim.toml --source dist/stage1 --output build/stage1-skim.aci
      from a directory
  aci-build aci-build/recipes/docker-static.toml --source docker-28.0.1.tgz --image-version 28.0.1 --output build/docker.aci
      from a static release's tarball

exit status: 0, or 254 with one line that says what is wrong; then the output is as it was before.
Downloads are kept in $SKIM_CACHE (default ~/.cache/skim). SOURCE_DATE_EPOCH limits the files' times, as everywhere.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one build was asked to do."""

    recipe: Path
    output: Path
    suite: str
    source: Path | None
    mirror: str | None
    keyring: Path | None
    cache: Path
    image_version: str | None
    offline: bool
    verbose: bool
    quiet: bool


def parse_options(argv: list[str] | None = None) -> Options:
    """Leaves with status 2 for a wrong command line, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="aci-build", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe, a TOML file")
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FILE", help="the image to write; replaced only when it is complete"
    )
    parser.add_argument("--suite", default="trixie", metavar="S", help="Debian suite of the packages (default: trixie)")
    parser.add_argument("--source", type=Path, metavar="PATH", help="directory or tarball, in place of the one that the recipe names")
    parser.add_argument("--image-version", metavar="V", help="the image's version label, in place of the recipe's")
    parser.add_argument("--mirror", metavar="URI", help="Debian mirror (default: those of this machine's apt configuration)")
    parser.add_argument("--keyring", type=Path, metavar="FILE", help="keys that sign the suite (default: Debian's archive keyring)")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", default=_default_cache(), help="where downloads are kept (default: %(default)s)"
    )
    parser.add_argument("--offline", action="store_true", help="use what was downloaded before, and nothing else")
    parser.add_argument("--verbose", "-v", action="store_true", help="say more about what is done")
    parser.add_argument("--quiet", "-q", action="store_true", help="say nothing but warnings and errors")
    found = parser.parse_args(argv)
    return Options(
        recipe=found.recipe,
        output=found.output,
        suite=found.suite,
        source=found.source,
        mirror=found.mirror,
        keyring=found.keyring,
        cache=found.cache.absolute(),
        image_version=found.image_version,
        offline=found.offline,
        verbose=found.verbose,
        quiet=found.quiet,
    )


def _default_cache() -> Path:
    base = os.environ.get("SKIM_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "skim")
    return Path(base)
