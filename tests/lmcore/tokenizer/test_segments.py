"""Cutting a stream into segments."""

from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer import pretokenize, segments as module
from lmcore.tokenizer.pretokenize import pre_tokens, safe_cut, split_special
from lmcore.tokenizer.segments import segments
from tests.strategies import chunked, patterns, special_token_sets, tricky_text


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


@pytest.mark.parametrize("letter", ["x", " ", "1", "!", "\u6f22"])
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "whitespace", "none"])
def test_a_text_without_a_place_to_be_cut_is_copied_and_searched_in_proportion(
    letter, pattern, monkeypatch
):
    """Copied a few times in all, and each character searched once, however long it is."""
    copied = searched = 0
    cut, whole, safe_cut = module._cut, module._whole, module.safe_cut

    def counted_cut(held, *settings):
        nonlocal copied
        copied += len(held.text)
        found, rest = cut(held, *settings)
        copied += len(rest.text)
        return found, rest

    def counted_whole(text, *settings):
        nonlocal copied
        copied += len(text)
        return whole(text, *settings)

    def counted_safe_cut(text, low, high, pattern):
        nonlocal searched
        searched += max(high - low, 0)
        return safe_cut(text, low, high, pattern)

    monkeypatch.setattr(module, "_cut", counted_cut)
    monkeypatch.setattr(module, "_whole", counted_whole)
    monkeypatch.setattr(module, "safe_cut", counted_safe_cut)
    for n in (1 << 12, 1 << 15):
        copied = searched = 0
        chunks = [letter * 7] * (n // 7)
        joined = "".join(s.text for s in segments(chunks, pattern, ("<eos>",), size=64))
        assert joined == "".join(chunks)
        assert copied <= 6 * n
        assert searched <= n


def test_a_place_to_be_cut_is_found_after_a_long_word():
    """A long word makes the reading run ahead by its own length, and no further."""
    n_read = 0

    def chunks():
        nonlocal n_read
        for chunk in ["x" * 10] * 1_000 + ["word "] * 10_000:
            n_read += len(chunk)
            yield chunk

    found = segments(chunks(), "gpt2", (), size=100)
    assert next(found).text.startswith("x" * 10_000)
    assert n_read <= 2 * 20_000
    assert all(len(segment.text) <= 200 for segment in found)


@settings(deadline=None, max_examples=300)
@given(tricky_text, st.integers(-2, 70), st.integers(-2, 70), patterns, st.sampled_from([1, 2, 5]))
def test_a_cut_is_found_where_there_is_one(text, low, high, pattern, searched_first):
    """By one look at each place: whatever is searched first, a cut is one, and none is missed."""
    high = min(high, len(text) - 1)
    places = [
        place
        for place in range(max(low, 0) + 1, high + 1)
        if pretokenize._compiled(pretokenize.SAFE_CUTS[pattern], False).match(text, place - 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "_SEARCHED_FIRST", searched_first)
        patch.setattr(pretokenize, "_TRIES", 0)
        cut = safe_cut(text, low, high, pattern)
    assert cut in places if places else cut == 0
