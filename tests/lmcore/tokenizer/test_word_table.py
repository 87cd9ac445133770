"""Words as numbers in a table."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer import word_table
from lmcore.tokenizer.fast_pretokenize import CutText
from lmcore.tokenizer.word_table import WordTable

near_words = st.text("ab\0", min_size=1, max_size=16).map(str.encode)
words = st.lists(st.one_of(st.binary(min_size=1, max_size=18), near_words), max_size=30)


def cut_of(texts: list[bytes]) -> CutText:
    """The words one after the other, as `cut_gpt2` would lay them out."""
    raw = np.frombuffer(b"".join(texts) + bytes(16), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int64)
    return CutText(raw, np.cumsum(lengths) - lengths, lengths, np.array([0, len(texts)]))


def words_of(table: WordTable, first: int = 0) -> list[bytes]:
    """The words of the table, from number ``first`` on."""
    text, lengths = table.words(first)
    ends = np.cumsum(lengths).tolist()
    assert len(text) == (ends or [0])[-1]
    return [text[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)]


@settings(deadline=None, max_examples=200)
@given(st.lists(words, max_size=4))
def test_every_word_has_one_number_and_no_other_word_has_it(texts):
    """Text by text, equal words get equal numbers, and the number leads back to the word."""
    table = WordTable()
    for text in texts:
        before = table.n
        number = table.find(cut_of(text)).tolist()
        distinct = words_of(table)
        assert [distinct[i] for i in number] == text
        assert words_of(table, before) == distinct[before:]
    assert len(set(distinct)) == table.n if texts else table.n == 0


@pytest.mark.parametrize("factor", [0, 1 << 60])
def test_words_that_collide_are_told_apart(factor, monkeypatch):
    """With one slot for all words, or a few, each still has a number of its own."""
    monkeypatch.setattr(word_table, "LOW_FACTOR", np.uint64(factor))
    monkeypatch.setattr(word_table, "HIGH_FACTOR", np.uint64(0))
    text = [b"%d" % i for i in range(500)]
    table = WordTable()
    assert sorted(table.find(cut_of(text))) == list(range(500))
    assert [words_of(table)[i] for i in table.find(cut_of(text[::-1]))] == text[::-1]


def test_a_table_grows():
    """More words than the first table has room for, some of them long, keep their numbers."""
    text = [b"%d" % i + b"x" * (i % 20) for i in range(20_000)]
    table = WordTable()
    parts = [table.find(cut_of(text[i : i + 3_000])) for i in range(0, len(text), 3_000)]
    assert np.array_equal(np.concatenate(parts), table.find(cut_of(text)))
    assert table.n == len(text)
