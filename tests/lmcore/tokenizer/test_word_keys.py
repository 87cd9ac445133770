"""Words as numbers."""

from collections import Counter

import numpy as np
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer.fast_pretokenize import CutText
from lmcore.tokenizer.word_keys import (
    counted_short,
    distinct_middle,
    distinct_short,
    is_long,
    is_middle,
    is_short,
    merged,
    words_of,
)

near_words = st.text("ab\0", min_size=1, max_size=16).map(str.encode)
words = st.lists(st.one_of(st.binary(min_size=1, max_size=18), near_words), max_size=30)


def cut_of(texts: list[bytes]) -> CutText:
    """The words one after the other, as `cut_gpt2` would lay them out."""
    raw = np.frombuffer(b"".join(texts) + bytes(16), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.cumsum(lengths) - lengths
    return CutText(raw, starts, lengths, np.zeros(len(texts), np.int64))


@settings(deadline=None)
@given(words)
def test_equal_words_have_equal_keys_and_no_others(texts):
    """Distinct words come back as they were, with their counts, zero bytes and all."""
    cut = cut_of(texts)
    short, middle = cut.chosen(is_short(cut)), cut.chosen(is_middle(cut))
    for part, found in (
        (short, counted_short(short)),
        (short, distinct_short(short)[0]),
        (middle, distinct_middle(middle)[0]),
    ):
        counts = dict(zip(found.words(), found.times.tolist(), strict=True))
        assert counts == Counter(words_of(part))
        assert len(counts) == len(found.low)


@settings(deadline=None)
@given(words)
def test_the_inverse_says_where_each_word_went(texts):
    """The distinct words, taken by the inverse, are the words in their order."""
    cut = cut_of(texts)
    for part, find in (
        (cut.chosen(is_short(cut)), distinct_short),
        (cut.chosen(is_middle(cut)), distinct_middle),
    ):
        keys, inverse = find(part)
        distinct = list(keys.words())
        assert [distinct[i] for i in inverse] == list(words_of(part))


@settings(deadline=None)
@given(words)
def test_every_word_is_of_one_length_class(texts):
    """Up to 7 bytes, up to 15, or longer: each word is counted once."""
    cut = cut_of(texts)
    assert (is_short(cut).astype(int) + is_middle(cut) + is_long(cut) == 1).all()


@settings(deadline=None)
@given(words, words)
def test_merging_adds_the_counts(one, other):
    """Counts of two parts, merged, are the counts of both together."""
    parts = [cut_of([text for text in texts if len(text) <= 7]) for texts in (one, other)]
    keys, _ = merged([counted_short(part) for part in parts])
    counts = dict(zip(keys.words(), keys.times.tolist(), strict=True))
    assert counts == Counter(words_of(parts[0])) + Counter(words_of(parts[1]))
