"""Recipes: TOML documents that say what goes into an image, parsed once into frozen values.

Every mistake is collected with its path in the document. Table `app` is the image manifest's app section field by field, and is checked
by appc itself, so that a recipe is refused before anything is fetched.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from appc.document import Fields, dump, keyed
from appc.errors import ManifestError, Problem, UserError
from appc.image import parse_image_manifest

if TYPE_CHECKING:
    from appc.document import Json

AC_VERSION = "0.8.11"

_APP = (
    "exec",
    "user",
    "group",
    "supplementaryGIDs",
    "workingDirectory",
    "environment",
    "mountPoints",
    "ports",
    "isolators",
    "eventHandlers",
    "userAnnotations",
    "userLabels",
)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_SONAME = re.compile(r"[^/\s]+\.so(\.[^/\s]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"0?[0-7]{3}")


@dataclass(frozen=True, kw_only=True)
class SuitePackages:
    """What one suite needs otherwise than the others."""

    packages: tuple[str, ...]
    without: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the files come from. `kind` is debian, directory or tarball; `path` is given by the recipe or by --source."""

    kind: str
    packages: tuple[str, ...] = ()
    optional_packages: tuple[str, ...] = ()
    suites: dict[str, SuitePackages]
    path: Path | None = None
    sha256: str | None = None

    def packages_of(self, suite: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The packages that the suite must have, and those that are taken where it has them."""
        here = self.suites.get(suite, SuitePackages(packages=(), without=()))
        required = (*self.packages, *here.packages)
        return (
            tuple(name for name in required if name not in here.without),
            tuple(name for name in self.optional_packages if name not in here.without),
        )


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of the image: its absolute path there, and its path in the source."""

    path: str
    origin: str
    optional: bool


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Files of the source that keep their paths: a shell pattern that starts at the source's root."""

    pattern: str
    optional: bool


@dataclass(frozen=True, kw_only=True)
class Subtree:
    """A whole directory of the source, and where in the image it goes."""

    origin: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """A small file that the recipe itself carries."""

    path: str
    text: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link; the target is a path in the image, and is written relative."""

    path: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory that must exist, though nothing is in it."""

    path: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe. Of `version` and `version_package` one is None, or both: then --image-version must tell."""

    file: Path
    name: str
    version: str | None
    version_package: str | None
    labels: dict[str, str]
    source: Source
    programs: tuple[Program, ...]
    patterns: tuple[Pattern, ...]
    subtrees: tuple[Subtree, ...]
    texts: tuple[Text, ...]
    links: tuple[Link, ...]
    directories: tuple[Directory, ...]
    relocate: bool
    extra_libraries: tuple[str, ...]
    app: Json
    annotations: dict[str, str]


def load_recipe(file: Path) -> Recipe:
    """Reads and checks a recipe. Raises UserError if it cannot be read, ManifestError with every problem that it has."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read recipe {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"recipe {file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {file} is not TOML: {error}") from None
    problems: list[Problem] = []
    recipe = _parse(cast("dict[str, Json]", document), file, problems)
    if problems:
        raise ManifestError(f"recipe {file}", problems)
    return recipe


def _parse(document: dict[str, Json], file: Path, problems: list[Problem]) -> Recipe:
    tables = ("image", "source", "program", "keep", "tree", "file", "link", "directory", "libraries", "app", "annotations")
    top = _table(document, "", problems, tables)
    image = _table(top.values.get("image", {}), "image", problems, ("name", "version", "labels"))
    version, version_package = _version(image)
    keep = _table(top.values.get("keep", {}), "keep", problems, ("files", "optional"))
    libraries = _table(top.values.get("libraries", {}), "libraries", problems, ("relocate", "extra"))
    relocate = libraries.boolean("relocate")
    recipe = Recipe(
        file=file,
        name=image.string("name", required=True),
        version=version,
        version_package=version_package,
        labels=image.string_map("labels"),
        source=_source(top.values.get("source"), file, problems),
        programs=top.array("program", _program),
        patterns=(*_patterns(keep, "files", optional=False), *_patterns(keep, "optional", optional=True)),
        subtrees=top.array("tree", _subtree),
        texts=top.array("file", _text),
        links=top.array("link", _link),
        directories=top.array("directory", _directory),
        relocate=relocate is not False,
        extra_libraries=_matching(libraries, "extra", _SONAME, "a library's name such as libfoo.so.1"),
        app=top.values.get("app"),
        annotations=_annotations(top, file),
    )
    _check_whole(recipe, problems)
    return recipe


def _table(value: Json, path: str, problems: list[Problem], known: tuple[str, ...]) -> Fields:
    """A table whose keys must all be known: a recipe is written by hand, and a misspelt key would silently do nothing."""
    if isinstance(value, dict):
        for key in value:
            if key not in known:
                problems.append(Problem(f"{path}.{key}" if path else key, f"is unknown here; known are {', '.join(known)}"))
    return Fields(value, path, problems, keyed(known))


def _version(image: Fields) -> tuple[str | None, str | None]:
    value = image.values.get("version")
    if not isinstance(value, dict):
        return image.string("version") or None, None
    package = _table(value, image.at("version"), image.problems, ("package",))
    return None, package.string("package", required=True, check=_is_package, expected="a package's name") or None


def _source(value: Json, file: Path, problems: list[Problem]) -> Source:
    if value is None:
        problems.append(Problem("source", "is required"))
        value = {"kind": "directory"}
    table = _table(value, "source", problems, ("kind", "packages", "optional-packages", "suites", "path", "sha256"))
    kind = table.string(
        "kind", required=True, check=lambda text: text in ("debian", "directory", "tarball"), expected="debian, directory or tarball"
    )
    suites = {}
    for suite, packages in _items(table, "suites").items():
        here = _table(packages, f"source.suites.{suite}", problems, ("packages", "without"))
        suites[suite] = SuitePackages(packages=_names(here, "packages"), without=_names(here, "without"))
    path = table.string("path")
    source = Source(
        kind=kind,
        packages=_names(table, "packages"),
        optional_packages=_names(table, "optional-packages"),
        suites=suites,
        path=file.parent / path if path else None,
        sha256=table.optional_string("sha256", check=lambda text: _SHA256.fullmatch(text) is not None, expected="64 lower-case hex digits"),
    )
    if kind == "debian" and not source.packages:
        table.problem("packages", "must name at least one package")
    allowed = {"debian": ("kind", "packages", "optional-packages", "suites"), "directory": ("kind", "path")}.get(
        kind, ("kind", "path", "sha256")
    )
    for key in table.values:
        if kind and key not in allowed:
            table.problem(key, f"has no meaning for a source of kind {kind}")
    return source


def _program(value: Json, path: str, problems: list[Problem]) -> Program:
    table = _table(value, path, problems, ("path", "from", "optional"))
    target = _image_path(table, "path")
    origin = "/" + table.string("from").lstrip("/") if "from" in table.values else target
    return Program(path=target, origin=origin, optional=table.boolean("optional") or False)


def _subtree(value: Json, path: str, problems: list[Problem]) -> Subtree:
    table = _table(value, path, problems, ("from", "path"))
    return Subtree(origin=posixpath.normpath("/" + table.string("from", required=True).lstrip("/")), path=_image_path(table, "path"))


def _text(value: Json, path: str, problems: list[Problem]) -> Text:
    table = _table(value, path, problems, ("path", "text", "mode"))
    return Text(path=_image_path(table, "path"), text=table.string("text"), mode=_mode(table, 0o644))


def _link(value: Json, path: str, problems: list[Problem]) -> Link:
    table = _table(value, path, problems, ("path", "target"))
    return Link(path=_image_path(table, "path"), target=_image_path(table, "target"))


def _directory(value: Json, path: str, problems: list[Problem]) -> Directory:
    table = _table(value, path, problems, ("path", "mode"))
    return Directory(path=_image_path(table, "path"), mode=_mode(table, 0o755))


def _patterns(keep: Fields, name: str, *, optional: bool) -> list[Pattern]:
    found = []
    for index, pattern in enumerate(keep.strings(name)):
        if _is_image_path(pattern):
            found.append(Pattern(pattern=pattern, optional=optional))
        else:
            keep.problem(f"{name}[{index}]", f'"{pattern}" is not an absolute path without . and ..')
    return found


def _annotations(top: Fields, file: Path) -> dict[str, str]:
    """Values are texts, or `{ file = "…" }`: the text of a file beside the recipe."""
    texts = {}
    for name, value in _items(top, "annotations").items():
        path = f"annotations.{name}"
        if isinstance(value, str):
            texts[name] = value
            continue
        beside = _table(value, path, top.problems, ("file",)).string("file", required=True)
        try:
            texts[name] = (file.parent / beside).read_text(encoding="utf-8") if beside else ""
        except (OSError, UnicodeDecodeError) as error:
            top.problems.append(Problem(f"{path}.file", f"cannot read {file.parent / beside}: {getattr(error, 'strerror', None) or error}"))
    return texts


def _check_whole(recipe: Recipe, problems: list[Problem]) -> None:
    """What no single field shows: two things at one path, an image of nothing, and the manifest that it would get."""
    seen: set[str] = set()
    for kind, paths in (
        ("program", [program.path for program in recipe.programs]),
        ("file", [text.path for text in recipe.texts]),
        ("link", [link.path for link in recipe.links]),
        ("directory", [directory.path for directory in recipe.directories]),
    ):
        for index, path in enumerate(paths):
            if path and path in seen:
                problems.append(Problem(f"{kind}[{index}].path", f'"{path}" is in the recipe twice'))
            seen.add(path)
    if isinstance(recipe.app, dict):
        _table(recipe.app, "app", problems, _APP)  # appc ignores unknown keys, as the specification wants it to
    if not (recipe.programs or recipe.patterns or recipe.subtrees or recipe.texts):
        problems.append(Problem("", "puts nothing into the image; add [[program]], [keep], [[tree]] or [[file]]"))
    if recipe.version_package is not None and recipe.source.kind != "debian":
        problems.append(Problem("image.version.package", "only a source of kind debian has packages"))
    try:
        parse_image_manifest(manifest_text(recipe, version=recipe.version or "0", architecture="amd64", annotations=recipe.annotations))
    except ManifestError as error:
        known = {problem.path for problem in problems}
        translated = [Problem(_recipe_path(problem.path, recipe), problem.message) for problem in error.problems]
        problems.extend(problem for problem in translated if problem.path not in known)


def _recipe_path(path: str, recipe: Recipe) -> str:
    """A path in the image manifest as a path in the recipe."""
    match = re.match(r"(labels|annotations)\[(\d+)\]", path)
    if match is None:
        return {"name": "image.name", "labels": "image.labels"}.get(path, path)
    names = list(recipe.annotations) if match[1] == "annotations" else ["version", *image_labels(recipe, "", "")][1:]
    index = int(match[2])
    prefix = "annotations" if match[1] == "annotations" else "image.labels"
    return f"{prefix}.{names[index]}" if index < len(names) else prefix


def image_labels(recipe: Recipe, version: str, architecture: str) -> dict[str, str]:
    """The image's labels in their order: version, os and arch first."""
    return {"version": version, "os": "linux", "arch": architecture} | recipe.labels


def manifest_text(recipe: Recipe, *, version: str, architecture: str, annotations: dict[str, str]) -> str:
    """The image manifest as JSON, not yet checked."""
    manifest: dict[str, object] = {
        "acKind": "ImageManifest",
        "acVersion": AC_VERSION,
        "name": recipe.name,
        "labels": [{"name": name, "value": value} for name, value in image_labels(recipe, version, architecture).items()],
    }
    if recipe.app is not None:
        manifest["app"] = recipe.app
    manifest["annotations"] = [{"name": name, "value": value} for name, value in annotations.items()]
    return dump(manifest)


def _items(table: Fields, name: str) -> dict[str, Json]:
    value = table.values.get(name, {})
    if isinstance(value, dict):
        return value
    table.problem(name, "must be a table")
    return {}


def _names(table: Fields, name: str) -> tuple[str, ...]:
    return _matching(table, name, _PACKAGE, "a package's name")


def _matching(table: Fields, name: str, rule: re.Pattern[str], expected: str) -> tuple[str, ...]:
    texts = table.strings(name)
    for index, text in enumerate(texts):
        if rule.fullmatch(text) is None:
            table.problem(f"{name}[{index}]", f'"{text}" is not {expected}')
    return texts


def _is_package(text: str) -> bool:
    return _PACKAGE.fullmatch(text) is not None


def _is_image_path(text: str) -> bool:
    return text.startswith("/") and text != "/" and posixpath.normpath(text) == text and "\0" not in text


def _image_path(table: Fields, name: str) -> str:
    return table.string(name, required=True, check=_is_image_path, expected="an absolute path without . and ..")


def _mode(table: Fields, default: int) -> int:
    text = table.string("mode", check=lambda text: _MODE.fullmatch(text) is not None, expected="a file mode such as 0644")
    return int(text, 8) if _MODE.fullmatch(text) else default
