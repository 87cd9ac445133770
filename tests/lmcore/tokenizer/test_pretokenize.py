"""Cutting text into pre-tokens."""

import pytest
from hypothesis import assume, given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer.pretokenize import (
    PATTERNS,
    checked_texts,
    pre_tokens,
    refuse_surrogates,
    safe_cut,
    split_special,
)
from tests.oracles import known_alike, pre_tokens_by_regex
from tests.strategies import any_text, patterns, special_token_sets, tricky_text


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        # The handout's example.
        (
            "gpt2",
            "some text that i'll pre-tokenize",
            ["some", " text", " that", " i", "'ll", " pre", "-", "tokenize"],
        ),
        ("gpt2", "a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
        ("gpt2", "a\nb \n", ["a", "\n", "b", " \n"]),
        ("gpt2", "'sabc ''s 's", ["'s", "abc", " ''", "s", " '", "s"]),
        ("gpt2", "1234x!?", ["1234", "x", "!?"]),
        ("gpt2", "I'LL", ["I", "'", "LL"]),
        ("gpt4", "I'LL 12345", ["I", "'LL", " ", "123", "45"]),
        ("gpt4", "a!\n\nb \n\n c", ["a", "!\n\n", "b", " \n\n", " c"]),
        ("gpt4", "\tx \u6f22\u5b57", ["\tx", " \u6f22\u5b57"]),
        ("whitespace", "It's 1, \n b", ["It's", " 1,", " \n", " b"]),
        ("none", "a b\nc", ["a b\nc"]),
    ],
)
def test_known_cuts(pattern, text, expected):
    """Each pattern cuts these texts as worked out by hand from its definition."""
    assert pre_tokens(text, pattern) == expected


@settings(deadline=None)
@given(st.one_of(any_text, tricky_text), patterns)
def test_nothing_is_lost(text, pattern):
    """The pre-tokens, joined, are the text, and none is empty."""
    pieces = pre_tokens(text, pattern)
    assert "".join(pieces) == text
    assert all(pieces)


@settings(deadline=None, max_examples=300)
@given(st.one_of(any_text, tricky_text), patterns)
def test_the_pattern_means_what_the_regex_library_says(text, pattern):
    """Compiled for `re` from the pinned table, a pattern finds what `regex` finds with its own."""
    assume(known_alike(text))
    assert pre_tokens(text, pattern) == pre_tokens_by_regex(text, PATTERNS[pattern])


@settings(deadline=None)
@given(tricky_text, patterns)
def test_a_character_beyond_the_basic_plane_changes_nothing_else(text, pattern):
    """The faster sets, for texts without such characters, cut as the full ones do."""
    cut_alone = pre_tokens(f"{text} ", pattern)
    cut_beside = pre_tokens(f"{text} \U0001f600", pattern)
    if pattern != "none":
        assert cut_beside[: len(cut_alone) - 1] == cut_alone[:-1]


@settings(deadline=None, max_examples=300)
@given(tricky_text, patterns, st.data())
def test_a_safe_cut_is_where_no_pre_token_crosses(text, pattern, data):
    """The parts on both sides of a safe cut have the pre-tokens of the whole."""
    assume(len(text) > 1)
    low, high = data.draw(st.integers(-12, len(text))), data.draw(st.integers(-12, len(text) - 1))
    cut = safe_cut(text, low, high, pattern)
    if cut:
        assert max(low, 0) < cut <= high
        whole = pre_tokens(text, pattern)
        assert pre_tokens(text[:cut], pattern) + pre_tokens(text[cut:], pattern) == whole


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "whitespace"])
def test_a_safe_cut_is_found_before_a_space(pattern):
    """Between a word and the space after it there is a cut, so streams are cut in small pieces."""
    assert safe_cut("one two three", 0, 12, pattern) == 7


@settings(deadline=None)
@given(tricky_text, special_token_sets)
def test_special_tokens_are_cut_out_leftmost_and_longest(text, special_tokens):
    """Reading from the left, the longest special token at each place is taken."""
    pieces, plain, place = [], "", 0
    while place < len(text):
        here = [token for token in special_tokens if text.startswith(token, place)]
        if here:
            longest = max(here, key=len)
            pieces += [plain, longest]
            plain, place = "", place + len(longest)
        else:
            plain, place = plain + text[place], place + 1
    assert split_special(text, special_tokens) == [*pieces, plain]


def test_special_tokens_are_strings_not_expressions():
    """Characters that mean something in an expression stand for themselves."""
    assert split_special("a.|b.|", (".|",)) == ["a", ".|", "b", ".|", ""]


def test_an_unknown_pattern_is_refused_by_name():
    """The message lists the patterns there are."""
    with pytest.raises(InputError, match="is 'gpt3': it must be one of gpt2, gpt4, whitespace"):
        pre_tokens("a", "gpt3")  # type: ignore[arg-type]


def test_a_lone_surrogate_is_refused_with_its_place():
    """A code point without UTF-8 bytes is an error that names it and says where it is."""
    with pytest.raises(InputError, match=r"text holds the lone surrogate U\+D800 at character 2"):
        refuse_surrogates("ab\ud800", "text")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("abc", "data is one str: it must be an iterable of str"),
        (b"abc", "data is one bytes"),
        (["a", b"b"], "item 1 of data is a bytes"),
        (["a", "\udfff"], "item 1 of data holds the lone surrogate"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message):
    """One str instead of a list of them, or an item that is no text, is an error that says so."""
    with pytest.raises(InputError, match=message):
        list(checked_texts(texts, "data"))
