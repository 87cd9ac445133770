"""The pinned table of character classes."""

import unicodedata
from itertools import pairwise

import pytest

from lmcore.tokenizer.unicode_classes import UNICODE_VERSION, ranges


def code_points(name) -> set[int]:
    return {code for first, last in ranges(name) for code in range(first, last + 1)}


@pytest.mark.parametrize(("name", "count"), [("L", 141_028), ("N", 1_911), ("s", 25)])
def test_the_classes_have_the_size_that_unicode_16_gives_them(name, count):
    """The counts are those of DerivedGeneralCategory.txt and PropList.txt, version 16.0.0."""
    assert UNICODE_VERSION == "16.0.0"
    assert len(code_points(name)) == count


@pytest.mark.parametrize("name", ["L", "N", "s"])
def test_ranges_are_ascending_and_apart(name):
    """Each range ends before the next begins, with a gap, so the table is the shortest there is."""
    spans = ranges(name)
    assert all(first <= last for first, last in spans)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(spans))


@pytest.mark.parametrize("name", ["L", "N"])
def test_letters_and_numbers_agree_with_python_where_it_knows_the_character(name):
    """Every code point that Python's own table has assigned is in the same class there."""
    if tuple(map(int, unicodedata.unidata_version.split("."))) > (16, 0, 0):
        pytest.skip("Python's table is newer than the project's: it may have moved characters")
    table = code_points(name)
    categories = ((code, unicodedata.category(chr(code))) for code in range(0x110000))
    differ = [c for c, kind in categories if kind != "Cn" and (kind[0] == name) != (c in table)]
    assert differ == []


def test_white_space_is_python_s_without_four_control_characters():
    """str.isspace counts U+001C to U+001F as white space; the property White_Space does not."""
    by_python = {code for code in range(0x110000) if chr(code).isspace()}
    assert by_python - code_points("s") == {0x1C, 0x1D, 0x1E, 0x1F}
    assert code_points("s") <= by_python
