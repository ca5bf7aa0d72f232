"""Kubernetes-style quantities of the resource isolators: `1.5Gi`, `200m`, `12e6` (contract section 8.4).

A quantity is a whole number of thousand-millionths ("nano"), the finest that the format knows. What is finer, and what a unit cannot
hold, is rounded away from zero: who asks for some of a resource gets some. More than 2^63-1 is cut to that.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NANO = 10**9
_MAX = (2**63 - 1) * _NANO
_QUANTITY = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([A-Za-z]*)([+-]?[0-9]*)")
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


class Quantity(NamedTuple):
    """A parsed quantity. `form` is decimal (`50M`), binary (`50Mi`) or exponent (`5e7`), and is kept when it is written."""

    nano: int
    form: str

    def whole(self) -> int:
        """In units (bytes of memory, operations), rounded up."""
        return _divide_up(self.nano, _NANO)

    def milli(self) -> int:
        """In thousandths (milli-CPU), rounded up."""
        return _divide_up(self.nano, _NANO // 1000)

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that holds it exactly."""
        if self.nano == 0:
            return "0"
        if self.form == "binary" and self.nano % _NANO == 0 and abs(self.nano) >= 1024 * _NANO:
            number, power = self.nano // _NANO, 0
            while number % 1024 == 0 and power < 6:
                number, power = number // 1024, power + 1
            return f"{number}{_BINARY_SUFFIXES[power]}"
        number, exponent = self.nano, -9
        while number % 1000 == 0 and exponent < 18:
            number, exponent = number // 1000, exponent + 3
        if self.form == "exponent":
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_NAMES[exponent]}"


def parse_quantity(text: str) -> Quantity:
    """Raises ValueError with the reason, without the text."""
    match = _QUANTITY.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError("is no quantity (such as 512M, 1.5Gi, 200m or 12e6)")
    sign, fraction = (-1 if match[1] == "-" else 1), match[3] or ""
    suffix, power = match[4], match[5]
    digits = int((match[2] + fraction)[:4000])
    if suffix in ("e", "E") and power not in ("", "+", "-"):
        form, exponent, factor = "exponent", max(-(10**6), min(10**6, int(power[:9]))), 1
    elif power:
        raise ValueError("has a suffix that does not exist")
    elif suffix in _DECIMAL_SUFFIXES:
        form, exponent, factor = "decimal", _DECIMAL_SUFFIXES[suffix], 1
    elif suffix in _BINARY_SUFFIXES:
        form, exponent, factor = "binary", 0, 1024 ** _BINARY_SUFFIXES.index(suffix)
    else:
        raise ValueError("has a suffix that does not exist")
    exponent += 9 - len(fraction)
    if digits == 0:
        nano = 0
    elif exponent > 60:
        nano = _MAX
    elif exponent >= 0:
        nano = digits * factor * 10**exponent
    else:
        nano = _divide_up(digits * factor, 10 ** min(-exponent, 4100))
    return Quantity(nano=sign * min(nano, _MAX), form=form)


def _divide_up(number: int, by: int) -> int:
    """Rounded away from zero."""
    return -(-number // by) if number >= 0 else number // by
