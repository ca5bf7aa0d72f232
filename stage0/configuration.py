"""Configuration files: `<dir>/{paths.d,stage1.d}/*.json` (contract section 7.5). Later directories win; within one, twice is an error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KINDS = {"paths.d": "paths", "stage1.d": "stage1"}


class Configuration(NamedTuple):
    """What is configured; "" for what is not. `stage1_name` and `stage1_version` are both set or both not."""

    data_directory: str = ""
    stage1_images_directory: str = ""
    stage1_name: str = ""
    stage1_version: str = ""
    stage1_location: str = ""


def read_configuration(directories: Sequence[str]) -> Configuration:
    """Merge the directories' files, "" is no directory. Raises UserError naming the file."""
    configuration = Configuration()
    for directory in directories:
        if directory:
            configuration = _read_directory(directory, configuration)
    return configuration


def _read_directory(directory: str, below: Configuration) -> Configuration:
    found: dict[str, tuple[str, str]] = {}
    for folder, kind in _KINDS.items():
        for path in _files(os.path.join(directory, folder)):
            for field, value in _read_file(path, kind).items():
                if field in found:
                    raise UserError(f"{path}: {field.replace('_', ' ')} is already set in {found[field][1]}")
                found[field] = (value, path)
    if ("stage1_name" in found) != ("stage1_version" in found):
        set_, missing = ("name", "version") if "stage1_name" in found else ("version", "name")
        raise UserError(f"{found['stage1_' + set_][1]}: stage1 {set_} is set, stage1 {missing} is not; they belong together")
    return below._replace(**{field: value for field, (value, _) in found.items()})


def _files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_file(path: str, kind: str) -> dict[str, str]:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(document, dict) or document.get("rktKind") != kind or document.get("rktVersion") != "v1":
        raise UserError(f'{path}: a file here needs "rktKind": "{kind}" and "rktVersion": "v1"')
    keys = {"data": "data_directory", "stage1-images": "stage1_images_directory"}
    if kind == "stage1":
        keys = {"name": "stage1_name", "version": "stage1_version", "location": "stage1_location"}
    found = {}
    for key, field in keys.items():
        value = document.get(key) or ""
        if not isinstance(value, str):
            raise UserError(f"{path}: {key} must be a string")
        if not value:
            continue
        if kind == "paths" and not os.path.isabs(value):
            raise UserError(f"{path}: {key} must be an absolute path")
        if key == "location" and not os.path.isabs(value) and value.partition(":")[0] not in ("file", "docker", "http", "https"):
            raise UserError(f"{path}: location must be an absolute path or a URL (file, docker, http, https)")
        found[field] = value
    return found
