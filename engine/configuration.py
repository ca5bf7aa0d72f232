"""/etc/skim/docker.conf: which images make the docker pod."""

from __future__ import annotations

import os
import shlex
from typing import NamedTuple

from appc.errors import UserError

_NAMES = {"STAGE1_IMAGE": "stage1", "CONTAINERD_IMAGE": "containerd", "DOCKER_IMAGE": "docker"}


class Configuration(NamedTuple):
    """Paths of image files."""

    stage1: str
    containerd: str
    docker: str


def parse_configuration(text: str, path: str) -> Configuration:
    """Raises UserError with every problem, each with its line's number in the file `path`."""
    images: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            problems.append(f"line {number}: {str(error).lower()}")
            continue
        if not words:
            continue
        name, equals, value = words[0].partition("=")
        if len(words) != 1 or not equals:
            problems.append(f"line {number}: expected NAME=PATH")
        elif name not in _NAMES:
            problems.append(f"line {number}: {name} is not one of {', '.join(_NAMES)}")
        elif not os.path.isabs(value):
            problems.append(f"line {number}: {name} is not an absolute path: {value!r}")
        else:
            images[_NAMES[name]] = value
    if not problems:
        problems = [f"{name} is missing" for name, role in _NAMES.items() if role not in images]
    if problems:
        raise UserError(f"{path}: " + "; ".join(problems))
    return Configuration(**images)


def read_configuration(path: str) -> Configuration:
    """Raises UserError if the file cannot be read, does not hold, or names an image that is not there."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            configuration = parse_configuration(file.read(), path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    missing = [image for image in configuration if not os.path.isfile(image)]
    if missing:
        raise UserError(f"{path} names images that are not there: {', '.join(missing)}")
    return configuration
