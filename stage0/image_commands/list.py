"""`rkt image list` (contract section 7.3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from appc.app import value_of
from appc.image_id import list_form
from stage0.flags import Flag
from stage0.output import out
from stage0.store import Store
from stage0.tables import align
from stage0.times import long_time, short_time

if TYPE_CHECKING:
    from appc.errors import UserError
    from stage0.context import Context
    from stage0.flags import FlagSet
    from stage0.store import StoredImage

DESCRIPTION = "Shows the images in the local store; which fields, and in which order, can be chosen."

_LEGENDS = {"id": "ID", "name": "NAME", "size": "SIZE", "importtime": "IMPORT TIME", "lastused": "LAST USED"}
_SORTABLE = ("name", "importtime", "lastused", "size")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class _Choices(NamedTuple):
    """What the flags chose."""

    fields: list[str]
    sort: list[str]
    descending: list[bool]


_chosen = _Choices(fields=[*_LEGENDS], sort=["importtime"], descending=[False])


def declare(flags: FlagSet) -> None:
    """--fields, --sort, --order, --no-legend, --full, --format."""
    _chosen.fields[:], _chosen.sort[:], _chosen.descending[:] = [*_LEGENDS], ["importtime"], [False]

    def fields(text: str) -> None:
        _chosen.fields[:] = _options(text, tuple(_LEGENDS))

    def sort(text: str) -> None:
        _chosen.sort[:] = _options(text, _SORTABLE)

    def order(text: str) -> None:
        if text.lower() not in ("asc", "desc"):
            raise ValueError("wrong sort order")
        _chosen.descending[:] = [text.lower() == "desc"]

    usage = "comma-separated list of fields to display. Accepted values: " + _accepted(_LEGENDS)
    flags.add(Flag(name="fields", accept=fields, usage=usage, default=",".join(_LEGENDS)))
    usage = "sort the output according to the provided comma-separated list of fields. Accepted values: " + _accepted(_SORTABLE)
    flags.add(Flag(name="sort", accept=sort, usage=usage, default="importtime"))
    usage = 'choose the sorting order if at least one sort field is provided (--sort). Accepted values: "asc", "desc"'
    flags.add(Flag(name="order", accept=order, usage=usage, default="asc"))
    flags.boolean("no-legend", "suppress a legend with the list")
    flags.boolean("full", "use long output format")
    usage = (
        "choose the output format, allowed format includes 'json', 'json-pretty'. If empty, then the result is printed as key value pairs"
    )
    flags.choice("format", usage, ("", "json", "json-pretty"))


def execute(context: Context, flags: FlagSet, arguments: list[str]) -> int:
    """Print the images; a damaged entry is told on standard error, with status 0."""
    images = _sorted(_readable(context))
    form, full = flags.value("format"), flags.value("full")
    if form:
        documents = [_document(image) for image in images] or None
        pretty = form == "json-pretty"
        text = json.dumps(documents, ensure_ascii=False, indent="\t" if pretty else None, separators=(",", ": " if pretty else ":"))
        out(text)
        return 0
    rows = [] if flags.value("no-legend") else [[_LEGENDS[field] for field in _chosen.fields]]
    for image in images:
        cells = _cells(image, full=full)
        rows.append([cells[field] for field in _chosen.fields])
    out(align("".join("\t".join(row) + "\n" for row in rows)))
    return 0


def human_size(size: int) -> str:
    """IEC units with up to one digit behind the point, as dustin/go-humanize writes them: 26KiB, 1.5MiB."""
    if size < 10:
        return f"{size}B"
    power = 0
    while power < len(_UNITS) - 1 and size >= 1024 ** (power + 1):
        power += 1
    value = int(size / 1024**power * 10 + 0.5) / 10
    return f"{value:.1f}{_UNITS[power]}" if value < 10 else f"{value:.0f}{_UNITS[power]}"


def _readable(context: Context) -> list[StoredImage]:
    damaged: list[UserError] = []
    images = Store(context.data_directory).images(damaged)
    for error in damaged:
        context.log.error("unable to read an image", error)
    return images


def _sorted(images: list[StoredImage]) -> list[StoredImage]:
    def rank(image: StoredImage) -> tuple[object, ...]:
        values: dict[str, object] = {
            "name": image.name,
            "importtime": image.import_time,
            "lastused": image.last_used,
            "size": image.size,
        }
        return tuple(values[field] for field in _chosen.sort)

    return sorted(sorted(images, key=lambda image: image.key), key=rank, reverse=_chosen.descending[0])


def _name(image: StoredImage) -> str:
    version = value_of(image.labels, "version")
    return image.name if version is None else f"{image.name}:{version}"


def _cells(image: StoredImage, *, full: bool) -> dict[str, str]:
    size, time = image.size + image.tree_size, long_time if full else short_time
    return {
        "id": image.key if full else list_form(image.key),
        "name": _name(image),
        "size": str(size) if full else human_size(size),
        "importtime": time(image.import_time),
        "lastused": time(image.last_used),
    }


def _document(image: StoredImage) -> dict[str, object]:
    return {
        "id": image.key,
        "name": _name(image),
        "import_time": image.import_time,
        "last_used_time": image.last_used,
        "size": image.size + image.tree_size,
    }


def _options(text: str, accepted: tuple[str, ...]) -> list[str]:
    options = text.split(",")
    for option in options:
        if option not in accepted:
            raise ValueError(f'unknown option "{option}"')
        if options.count(option) > 1:
            raise ValueError(f'duplicated option "{option}"')
    return options


def _accepted(names: object) -> str:
    return ", ".join(f'"{name}"' for name in names)  # type: ignore[attr-defined]
