"""Merging words fast, against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer import fast_encoding
from lmcore.tokenizer.bpe import merge_word, single_bytes
from lmcore.tokenizer.engine import compiled
from lmcore.tokenizer.fast_encoding import (
    PairRanks,
    WordEncoder,
    WordMerger,
    merge_ids,
    merge_long,
    merge_short,
    merge_table,
)
from tests.strategies import merge_orders


@settings(deadline=None, max_examples=200)
@given(st.text("abc", min_size=1, max_size=60), merge_orders())
def test_short_and_long_words_merge_as_by_definition(word, merges):
    """Both ways give the tokens of the plain rule, whatever the order and the ambiguity."""
    tokens = [*(bytes([byte]) for byte in range(256)), *dict.fromkeys(merges.values())]
    table = merge_table({token: i for i, token in enumerate(tokens)}, merges)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    expected = list(merge_word(single_bytes(word), ranks))
    for merge in (merge_short, merge_long):
        assert [tokens[i] for i in merge(list(word.encode()), table)] == expected


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text("abc", min_size=1, max_size=70), max_size=50),
    merge_orders(),
    st.sampled_from([1, 100, 1 << 20]),
    st.sampled_from([4, 64]),
)
def test_many_words_merge_as_one(engine, words, merges, row_bytes, short_word_bytes):
    """Side by side, words have the ids that each has alone, in their order."""
    tokens = [*(bytes([byte]) for byte in range(256)), *dict.fromkeys(merges.values())]
    table = merge_table({token: i for i, token in enumerate(tokens)}, merges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_encoding, "FEW_WORDS", 0)
        patch.setattr(fast_encoding, "ROW_BYTES", row_bytes)
        patch.setattr(fast_encoding, "SHORT_WORD_BYTES", short_word_bytes)
        lengths = np.array([len(word) for word in words], np.int64)
        ids, n_ids = WordMerger(table).merge("".join(words).encode(), lengths, compiled(engine))
    ends = np.cumsum(n_ids).tolist()
    found = [ids[end - n : end].tolist() for end, n in zip(ends, n_ids.tolist(), strict=True)]
    assert found == [merge_ids(word.encode(), table) for word in words]


def test_ranks_of_pairs_that_collide(monkeypatch):
    """With one slot for all pairs, or a few, each still has its own rank, and others have none."""
    pairs = [(i, j) for i in range(40) for j in range(0, 40, 2)]
    left, right = np.array([(i, j) for i in range(41) for j in range(41)]).T
    for factor in (0, 1 << 60, fast_encoding.LOW_FACTOR):
        monkeypatch.setattr(fast_encoding, "LOW_FACTOR", np.uint64(factor))
        monkeypatch.setattr(fast_encoding, "HIGH_FACTOR", np.uint64(factor))
        ranks = PairRanks({pair: rank for rank, pair in enumerate(pairs)})
        known = {pair: rank for rank, pair in enumerate(pairs)}
        expected = [
            known.get(pair, 800) for pair in zip(left.tolist(), right.tolist(), strict=True)
        ]
        assert ranks.find(left, right).tolist() == expected


def test_a_word_is_merged_once(monkeypatch):
    """The second look-up of a word is a look-up; a word too long to remember is merged again."""
    encoder = WordEncoder(merge_table({bytes([byte]): byte for byte in range(256)}, {}))
    calls = []
    monkeypatch.setattr(
        fast_encoding, "merge_ids", lambda word, table: calls.append(word) or list(word)
    )
    assert encoder["ab"] == encoder["ab"] == (97, 98)
    assert calls == [b"ab"]
    long = "x" * (fast_encoding.REMEMBERED_WORD_CHARACTERS + 1)
    assert encoder[long] == encoder[long]
    assert len(calls) == 3


def test_the_memory_is_bounded(monkeypatch):
    """When the memory is full it starts afresh, and the ids stay the same."""
    monkeypatch.setattr(fast_encoding, "REMEMBERED_WORDS", 2)
    encoder = WordEncoder(merge_table({bytes([byte]): byte for byte in range(256)}, {}))
    for word in ("a", "b", "c", "a"):
        assert encoder[word] == tuple(word.encode())
        assert len(encoder) <= 2


@pytest.mark.parametrize("letter", ["a", "ab"])
def test_a_megabyte_without_a_space_takes_seconds(letter):
    """One word of a million bytes is no special case: n log n, where the plain rule takes hours."""
    merges, token = {}, letter.encode()
    vocab = {bytes([byte]): byte for byte in range(256)}
    if letter == "ab":
        merges[b"a", b"b"] = b"ab"
        vocab[b"ab"] = 256
    for _ in range(10):
        merges[token, token] = token * 2
        vocab[token * 2] = len(vocab)
        token *= 2
    ids = fast_encoding.merge_ids(
        letter.encode() * (1_024_000 // len(letter)), merge_table(vocab, merges)
    )
    assert ids == [vocab[token]] * (1_024_000 // len(token))
