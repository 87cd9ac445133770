"""Words as numbers in a table."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer import word_table
from lmcore.tokenizer.engine import Engine, compiled
from lmcore.tokenizer.fast_pretokenize import BARRIER, CutText, cut_gpt2
from lmcore.tokenizer.word_table import WordTable

near_words = st.text("ab\0\x01", min_size=1, max_size=18).map(str.encode)
any_bytes = st.binary(min_size=1, max_size=18).filter(lambda word: word[0] != 0xFF)  # no barrier
words = st.lists(st.one_of(any_bytes, near_words), max_size=30)


def cut_of(texts: list[bytes]) -> CutText:
    """The words one after the other, then a barrier, as `cut_gpt2` would lay them out."""
    raw = np.frombuffer(b"".join(texts) + BARRIER + bytes(16), np.uint8)
    lengths = np.array([*map(len, texts), 1], np.int64)
    return CutText(raw, np.cumsum(lengths) - lengths, lengths, np.array([len(texts)]))


def numbers(table: WordTable, texts: list[bytes], engine: Engine) -> list[int]:
    """What the table finds; the barrier has no number."""
    kernels = compiled(engine)
    cut = cut_of(texts)
    found = table.find_compiled(cut, kernels) if kernels else table.find(cut)
    assert found[-1] == 0
    return found[:-1].tolist()


def words_of(table: WordTable, first: int = 1) -> list[bytes]:
    """The words of the table, from number ``first`` on."""
    text, lengths = table.words(first)
    ends = np.cumsum(lengths).tolist()
    assert len(text) == (ends or [0])[-1]
    return [text[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)]


@settings(deadline=None, max_examples=200)
@given(st.lists(words, max_size=4), st.data())
def test_every_word_has_one_number_and_no_other_word_has_it(engine, texts, data):
    """Text by text, equal words get equal numbers, and the number leads back to the word.

    Whichever engine reads the next text.
    """
    table = WordTable()
    seen: list[bytes] = []
    for text in texts:
        before = table.n
        reader = data.draw(st.sampled_from(["numpy", engine]))
        number = numbers(table, text, reader)
        seen += text
        distinct = words_of(table)
        assert [distinct[i - 1] for i in number] == text
        assert words_of(table, before) == distinct[before - 1 :]
        assert sorted(distinct) == sorted(set(seen))


@pytest.mark.parametrize("factor", [0, 1 << 60])
def test_words_that_collide_are_told_apart(engine, factor, monkeypatch):
    """With one slot for all words, or a few, each still has a number of its own."""
    monkeypatch.setattr(word_table, "LOW_FACTOR", np.uint64(factor))
    monkeypatch.setattr(word_table, "HIGH_FACTOR", np.uint64(0))
    text = [b"%d" % i for i in range(500)] + [b"%d5678901" % i for i in range(100, 150)]
    table = WordTable()
    assert sorted(numbers(table, text, engine)) == list(range(1, 551))
    assert [words_of(table)[i - 1] for i in numbers(table, text[::-1], engine)] == text[::-1]


def test_a_table_grows(engine):
    """More words than the first table has room for, some of them long, keep their numbers."""
    text = [b"%d" % i + b"x" * (i % 20) for i in range(20_000)]
    table = WordTable()
    parts = [numbers(table, text[i : i + 3_000], engine) for i in range(0, len(text), 3_000)]
    assert [n for part in parts for n in part] == numbers(table, text, engine)
    assert table.n == len(text) + 1


def test_runs_of_barriers_of_any_length_are_no_words(engine):
    """Many empty texts in a row leave nothing in the table."""
    table = WordTable()
    kernels = compiled(engine)
    for n in range(1, 40):
        cut = cut_gpt2(["a", *[""] * n, "a"])
        found = table.find_compiled(cut, kernels) if kernels else table.find(cut)
        assert found[found > 0].tolist() == [1, 1]
        words_before = np.cumsum(found > 0)[cut.ends - 1]
        assert words_before.tolist() == [*[1] * (n + 1), 2]
    assert words_of(table) == [b"a"]
