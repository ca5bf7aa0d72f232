"""Quantities, by the rules of the resource package of the specification's Go code."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "whole", "canonical"),
    [
        ("0", 0, "0"),
        ("50M", 50_000_000, "50M"),
        ("1000M", 10**9, "1G"),
        ("1.5Gi", 1536 * 1024**2, "1536Mi"),
        ("16m", 1, "16m"),
        ("1.5", 2, "1500m"),
        ("0.1n", 1, "1n"),
        ("12e6", 12_000_000, "12e6"),
        ("1E3", 1000, "1e3"),
        ("1E", 10**18, "1E"),
        ("-9", -9, "-9"),
        ("-1500m", -2, "-1500m"),
        ("512Ki", 512 * 1024, "512Ki"),
        ("100Ei", 2**63 - 1, "9223372036854775807"),
        ("1e999999999", 2**63 - 1, "9223372036854775807e0"),
        (".5Ki", 512, "512"),
        ("+3k", 3000, "3k"),
    ],
)
def test_values_and_canonical_forms(text: str, whole: int, canonical: str) -> None:
    quantity = parse_quantity(text)
    assert quantity.whole() == whole
    assert str(quantity) == canonical.removesuffix("e0")


def test_milli_cpu_is_rounded_up() -> None:
    assert parse_quantity("0.5").milli() == 500
    assert parse_quantity("1n").milli() == 1


@pytest.mark.parametrize("text", ["", "M", ".", "+", "1Z", "1KiB", "1 M", "1e", "1e+", "1M5", "1,5", "0x10", "١"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|suffix"):
        parse_quantity(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "k", "M", "G", "m", "u", "n", "Ki", "Mi", "Gi", "e3"]))
def test_the_canonical_form_means_the_same(number: int, suffix: str) -> None:
    quantity = parse_quantity(f"{number}{suffix}")
    assert parse_quantity(str(quantity)).nano == quantity.nano


@given(st.integers(0, 10**15), st.integers(0, 12))
def test_rounding_never_gives_less(digits: int, places: int) -> None:
    text = f"{digits}e-{places}"
    assert parse_quantity(text).whole() - Fraction(digits, 10**places) >= 0
    assert parse_quantity(text).whole() - Fraction(digits, 10**places) < 1
