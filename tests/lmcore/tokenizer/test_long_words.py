"""Merging long words on arrays: as by definition, and in as many steps as the word is long."""

import random
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore import Tokenizer, train_bpe
from lmcore.errors import InputError
from lmcore.synthetic.stories import stories
from lmcore.tokenizer import fast_encoding, long_words
from lmcore.tokenizer.bpe import merge_word, single_bytes
from lmcore.tokenizer.fast_encoding import (
    MergeTable,
    PairRanks,
    WordMerger,
    merge_ids,
    merge_long,
    merge_table,
)
from lmcore.tokenizer.long_words import EDGE, GONE, Rules, merge_row
from tests.strategies import merge_orders

Merges = dict[tuple[bytes, bytes], bytes]


def rules_of(table: MergeTable) -> Rules:
    return Rules(table.ranks, PairRanks(table.ranks).find, np.array([*table.made, 0]))


def tokens_and_table(merges: Merges) -> tuple[list[bytes], MergeTable]:
    """All bytes and what the merges make; ids are places in the list."""
    tokens = [*(bytes([byte]) for byte in range(256)), *dict.fromkeys(merges.values())]
    return tokens, merge_table({token: i for i, token in enumerate(tokens)}, merges)


@pytest.fixture(scope="module")
def trained() -> tuple[Merges, str]:
    """Merges of a text, and the text with its white space taken out."""
    text = "\n".join(stories(seed=0, start=0, count=60))
    return train_bpe([text], 700, ())[1], "".join(text.split())


# One way of the two, or both by turns; everything looked up at once, or in pieces.
ways = st.sampled_from([0, 2, 64])
pieces = st.sampled_from([1, 7, 1 << 16])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text("abc", min_size=1, max_size=70), max_size=6), merge_orders(), ways, pieces)
def test_words_in_a_row_merge_as_by_definition(words, merges, few, at_once):
    """Whatever the order of merges and whichever pairs make the same bytes, alone or in a row."""
    tokens, table = tokens_and_table(merges)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    row = [i for word in words for i in (*word.encode(), EDGE)][:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_words, "FEW_PLACES", few)
        patch.setattr(long_words, "LOOKED_UP_AT_ONCE", at_once)
        merged = merge_row(np.array(row, np.int64), rules_of(table)).tolist()
    found = [[tokens[i] for i in ids] for edge, ids in groupby(merged, EDGE.__eq__) if not edge]
    assert found == [list(merge_word(single_bytes(word), ranks)) for word in words]


NOISE = "".join(random.Random(0).choices("abcdefgh\u00e9\u6f22", k=2_000))


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize(
    "word", ["a" * 3_001, "ab" * 1_500, "aab" * 1_000, "aaab" * 700 + "a" * 99, NOISE]
)
def test_words_that_repeat_and_words_that_never_do(word, few, monkeypatch):
    """Runs, whose pairs overlap, and noise: the tokens are those of the lists."""
    monkeypatch.setattr(long_words, "FEW_PLACES", few)
    sample = [NOISE, "aaaa ab abab aab aabaab"]
    _, table = tokens_and_table(train_bpe(sample, 400, (), pattern="none")[1])
    ids = [table.byte_ids[byte] for byte in word.encode()]
    assert merge_row(np.array(ids), rules_of(table)).tolist() == merge_long(ids, table)


def test_text_without_white_space(trained):
    """A natural text in one word, and in many long words at once: the ids of each word alone."""
    merges, text = trained
    _, table = tokens_and_table(merges)
    ids = list(text.encode())
    assert len(ids) > 20_000
    merged = merge_row(np.array(ids), rules_of(table)).tolist()
    assert merged == merge_long(ids, table)
    words = [text[i : i + 60 + i % 90] for i in range(0, len(text), 150)]
    lengths = np.array([len(word.encode()) for word in words])
    found, n_ids = WordMerger(table).merge("".join(words).encode(), lengths)
    one_by_one = [merge_ids(word.encode(), table) for word in words]
    assert found.tolist() == [i for one in one_by_one for i in one]
    assert n_ids.tolist() == list(map(len, one_by_one))


def test_a_long_word_takes_the_arrays_everywhere(trained, monkeypatch):
    """`Tokenizer` gives a word of any length the same ids, one by one, as a list or an array."""
    merges, text = trained
    tokens, table = tokens_and_table(merges)
    letters = "".join(filter(str.isalpha, text))
    expected = merge_long(list(letters.encode()), table)
    monkeypatch.setattr(fast_encoding, "ARRAY_WORD_BYTES", 1_000)
    monkeypatch.setattr(fast_encoding, "merge_long", lambda *_: pytest.fail("not on arrays"))
    tokenizer = Tokenizer(tokens, merges)
    assert tokenizer.encode(letters) == expected
    assert tokenizer.encode_batch([letters])[0].tolist() == expected
    assert list(tokenizer.encode_iterable(letters[i : i + 99] for i in range(0, 1 << 17, 99)))


def test_a_byte_that_is_no_token_is_named():
    """A long word with a byte that the vocabulary lacks is refused as a short one is."""
    table = merge_table({b"a": 0, b"b": 1}, {})
    for word in (b"ab!", b"ab!" * 100, b"ab!" * fast_encoding.ARRAY_WORD_BYTES):
        with pytest.raises(InputError, match="byte 0x21, which is not in the vocabulary"):
            merge_ids(word, table)
        with pytest.raises(InputError, match="byte 0x21, which is not in the vocabulary"):
            WordMerger(table).merge(word, np.array([len(word)]))


class Counting(np.ndarray):
    """An array that counts the elements of all that is done with it, and with what comes of it."""

    n_elements = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(x) if isinstance(x, Counting) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) for x in out)
        return self._count(getattr(ufunc, method)(*plain, **kwargs), *plain)

    def __array_function__(self, function, types, args, kwargs):
        return self._count(super().__array_function__(function, types, args, kwargs), *args)

    def __getitem__(self, key):
        return self._count(super().__getitem__(key))

    def __setitem__(self, key, value):
        self._count(key, value)
        super().__setitem__(key, value)

    @staticmethod
    def _count(found, *others):
        Counting.n_elements += max(getattr(x, "size", 1) for x in (found, *others))
        return found.view(Counting) if isinstance(found, np.ndarray) else found


@pytest.fixture
def steps(monkeypatch):
    """Counts all elements that arrays of a row handle, and all places that buckets hand out."""
    monkeypatch.setattr(long_words, "FEW_PLACES", 0)  # so that all is done on arrays
    linked, pop = long_words._linked, long_words._Buckets.pop

    def counted_row(row):
        return long_words._Row(*(array.view(Counting) for array in linked(row)))

    def counted_pop(buckets):
        rank, places = pop(buckets)
        Counting.n_elements += len(places)
        return rank, places

    monkeypatch.setattr(long_words, "_linked", counted_row)
    monkeypatch.setattr(long_words._Buckets, "pop", counted_pop)

    def count(word: bytes, table: MergeTable) -> int:
        Counting.n_elements = 0
        merged = merge_row(np.frombuffer(word, np.uint8).astype(np.int64), rules_of(table))
        assert GONE not in merged.tolist()
        return Counting.n_elements

    return count


@pytest.mark.parametrize("word", ["letters", "a", "ab", "aab"])
def test_the_steps_grow_with_the_word_and_no_faster(word, trained, steps):
    """Eight times the word, about eight times the elements: no merge reads all of the row."""
    merges, text = trained
    if word == "letters":
        unit = "".join(filter(str.isalpha, text)) * 4
    else:
        merges = train_bpe([word * 4_000], 264, (), pattern="none")[1]
        unit = word * (1 << 16)
    _, table = tokens_and_table(merges)
    size = 1 << 13
    small, large = (steps((unit * 8)[: n * size].encode(), table) for n in (1, 8))
    assert 7 * small < large < 9 * small
    assert small < 80 * size  # some twenty-five operations, on at most three places a symbol


def test_no_place_waits_more_than_three_times_over(trained, monkeypatch):
    """The buckets hold 3 n places in all, however the merges go."""
    merges, text = trained
    _, table = tokens_and_table(merges)
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    handed_out = []
    pop = long_words._Buckets.pop
    monkeypatch.setattr(
        long_words._Buckets,
        "pop",
        lambda self: (lambda found: handed_out.append(len(found[1])) or found)(pop(self)),
    )
    merge_row(ids, rules_of(table))
    assert sum(handed_out) <= 3 * len(ids)
