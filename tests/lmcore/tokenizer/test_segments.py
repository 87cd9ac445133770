"""Cutting a stream into segments."""

from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer.pretokenize import pre_tokens, split_special
from lmcore.tokenizer.segments import segments
from tests.strategies import chunked, patterns, special_token_sets


@settings(deadline=None, max_examples=200)
@given(chunked(), patterns, special_token_sets, st.sampled_from([1, 2, 3, 8, 64]))
def test_segments_have_the_pre_tokens_of_the_whole(text_and_chunks, pattern, special, size):
    """However the text is chunked, and however early it is cut, its pre-tokens are the same."""
    text, chunks = text_and_chunks
    found = [
        word
        for segment in segments(chunks, pattern, special, size)
        for word in ([segment.text] if segment.is_special else pre_tokens(segment.text, pattern))
    ]
    expected = [
        word
        for place, piece in enumerate(split_special(text, special))
        for word in ([piece] if place % 2 else pre_tokens(piece, pattern))
    ]
    assert found == expected


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_text_without_spaces_is_cut_too(pattern):
    """Chinese has no spaces: a sign after a letter is a place to cut, so little is held."""
    chunk = "\u6f22\u5b57\u3001\u6f22\u5b57\u3002"
    longest = max(len(s.text) for s in segments([chunk] * 1000, pattern, ("<eos>",), size=50))
    assert longest < 2 * 50 + len("<eos>") + len(chunk)


def test_reading_is_lazy():
    """The first segment comes out when little more than one piece has been read."""
    n_read = 0

    def endless():
        nonlocal n_read
        while True:
            n_read += 1
            yield "word "

    assert len(list(islice(segments(endless(), "gpt2", ("<eos>",), size=100), 3))) == 3
    assert n_read <= 3 * 100 / 5 + 3


def test_a_large_text_is_given_out_in_small_pieces():
    """One string of any length is cut, so that what is made of it stays small."""
    pieces = [s.text for s in segments(["some words " * 1000], "gpt2", (), size=100)]
    assert "".join(pieces) == "some words " * 1000
    assert max(map(len, pieces)) <= 200
