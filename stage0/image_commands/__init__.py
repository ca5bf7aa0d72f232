"""`rkt fetch` and `rkt image ...` (contract section 7.3): one module each, imported when the table of commands asks for it."""

from __future__ import annotations


def __getattr__(name: str) -> object:
    from importlib import import_module

    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name == f"{__name__}.{name}":
            raise AttributeError(name) from None
        raise
