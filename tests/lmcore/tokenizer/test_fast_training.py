"""The fast trainer, against the definition."""

import warnings
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer import fast_training
from lmcore.tokenizer.bpe import VocabularyNotFilled, train_by_definition
from lmcore.tokenizer.fast_training import train_bpe
from tests.strategies import patterns, small_corpora, special_token_sets


def quietly(train, *args, **kwargs):
    """The result, in the order of the merges, and whether training stopped early."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vocab, merges = train(*args, **kwargs)
    assert all(issubclass(warning.category, VocabularyNotFilled) for warning in said)
    return vocab, list(merges.items()), len(said)


@settings(deadline=None, max_examples=300)
@given(
    small_corpora,
    st.integers(0, 60),
    special_token_sets,
    patterns,
    st.sampled_from([1, 2, 9, 2000]),
)
@example(["aaaaaaa", "aaaa aaa"], 9, (), "none", 1)
@example(["abcbc" * 3, "bcabc", "abc" * 4], 20, (), "none", 1)
def test_merges_equal_those_of_the_definition(texts, n_merges, special, pattern, epoch):
    """On any corpus, vocabulary, merges and their order are the oracle's, in long and short epochs.

    Every count, tie and overlap is decided by the oracle; epochs of one pair make each step pack
    the words and count again.
    """
    vocab_size = 256 + len(special) + n_merges
    usual = fast_training.PAIRS_IN_EPOCH
    try:
        fast_training.PAIRS_IN_EPOCH = epoch
        fast = quietly(train_bpe, texts, vocab_size, special, pattern=pattern)
    finally:
        fast_training.PAIRS_IN_EPOCH = usual
    assert fast == quietly(train_by_definition, texts, vocab_size, special, pattern=pattern)


@settings(deadline=None, max_examples=50)
@given(small_corpora, st.integers(1, 5))
def test_repeating_the_corpus_changes_no_merge(texts, times):
    """Counts multiplied by one number keep their order, so the same merges are made."""
    once = quietly(train_bpe, texts, 280, ())
    assert quietly(train_bpe, texts * times, 280, ()) == once


def test_bins_that_collide_change_nothing(monkeypatch):
    """With one bin for all pairs the first count is useless, and the result the same."""
    texts = ["the cat sat on the mat", "then the hat", "aaaa bbb ab ab"] * 2
    expected = quietly(train_bpe, texts, 300, ())
    monkeypatch.setattr(fast_training, "HASH_BINS", 4)
    assert quietly(train_bpe, texts, 300, ()) == expected


def test_words_of_every_length_are_merged():
    """A word of 100,000 letters, which no space cuts, is merged like the others."""
    vocab, _ = train_bpe(["ab" * 50_000], 260, (), pattern="none")
    assert vocab[256:] == [b"ab", b"ab" * 2, b"ab" * 4, b"ab" * 8]


def test_progress_tells_both_phases():
    """The callback hears the characters read, then the growing vocabulary, up to its full size."""
    heard = []
    text = "".join(f"{a}{b} " for a in "abcdefghijklm" for b in "nopqrstuvwxyz0123456789")
    vocab, _ = train_bpe([text], 406, (), progress=heard.append)
    counted = [event for event in heard if event.phase == "count"]
    merged = [event for event in heard if event.phase == "merge"]
    assert heard == counted + merged
    assert (counted[-1].done, counted[-1].total, counted[-1].unit) == (len(text), 0, "characters")
    assert (merged[-1].done, merged[-1].total, merged[-1].unit) == (len(vocab), 406, "tokens")
    assert all(before.done < after.done for before, after in pairwise(merged))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], 258), r"vocab_size is 258: it must be at least 259 \(256 bytes \+ 3 special"),
        ((["a"], 300, ("<eos>", "<eos>")), "it already is special_tokens"),
        ((["a"], 300, ("",)), "must not be empty"),
        ((["a"], 300, "<eos>"), "special_tokens is the str"),
        (("text", 300), "training_data is one str"),
        (([1], 300), "item 0 of training_data is a int"),
        ((["\ud800"], 300), "lone surrogate"),
    ],
)
@pytest.mark.parametrize("train", [train_bpe, train_by_definition])
def test_what_cannot_be_trained_on_is_refused(train, arguments, message):
    """Both trainers refuse the same arguments, with the same words."""
    with pytest.raises(InputError, match=message):
        train(*arguments)


def test_an_unknown_pattern_is_refused():
    """The pattern is checked before any text is read."""
    with pytest.raises(InputError, match="pattern is 'gpt3'"):
        train_bpe(iter([]), 300, (), pattern="gpt3")  # type: ignore[arg-type]
