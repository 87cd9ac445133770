"""Bytes as a person reads them."""

import re

import pytest
from hypothesis import given, settings, strategies as st

from flows.disk.units import size


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (1e18, "1.0 EB"),
    ],
)
def test_bytes_are_read_by_people(n_bytes, text):
    """Sizes have one decimal and never four digits."""
    assert size(n_bytes) == text


@settings(deadline=None)
@given(n=st.integers(0, 10**20))
def test_sizes_are_short_and_true(n: int) -> None:
    """No size has an exponent or four digits before its unit, and all are true."""
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    found = re.fullmatch(r"(\d+(?:\.\d)?) (\D+)", size(n))
    assert found, size(n)
    value, unit = float(found[1]), 1000 ** units.index(found[2])
    assert value < 1000
    assert abs(value * unit - n) <= 0.051 * unit
