"""Counting pre-tokens."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer import word_counts
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.pretokenize import pre_tokens, split_special
from lmcore.tokenizer.word_counts import count_words
from tests.strategies import patterns, small_corpora, special_token_sets


@settings(deadline=None)
@given(small_corpora, patterns, special_token_sets)
def test_counts_are_those_of_the_pre_tokens(engine, texts, pattern, special_tokens):
    """Every pre-token between special tokens is counted, by its bytes."""
    expected = Counter(
        word.encode()
        for text in texts
        for plain in split_special(text, special_tokens)[::2]
        for word in pre_tokens(plain, pattern)
    )
    assert count_words(texts, pattern, special_tokens, engine=engine).as_dict() == expected


@settings(deadline=None)
@given(small_corpora, patterns, special_token_sets, st.integers(1, 40))
def test_parts_counted_apart_add_up(engine, texts, pattern, special_tokens, size):
    """Shared out in parts of any size, the counts are those of the whole."""
    whole = count_words(texts, pattern, special_tokens).as_dict()
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "SHARE_CHARACTERS", size)
        patch.setattr(word_counts, "BATCH_CHARACTERS", size)
        shared_out = count_words(
            texts, pattern, special_tokens, heard.append, engine=engine, map_in_order=map
        )
    assert shared_out.as_dict() == whole
    assert heard == sorted(heard)


def test_processes_count_as_one():
    """The parts, and what is made of them, travel between processes."""
    text = "one two<eos> three's \u6f22\u5b57, \U0001f600 caf\u00e9\n" * 300_000
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        shared_out = train_bpe([text], 270, ("<eos>",), map_in_order=pool.map)
    assert shared_out == train_bpe([text], 270, ("<eos>",))


def test_words_of_every_length_are_counted(engine):
    """From one byte to far beyond what fits into a number, each word is counted as itself."""
    words = [letter * length for length in range(1, 40) for letter in ("a", "b", "\u00e9")]
    counts = count_words(words * 2 + words[:1], engine=engine).as_dict()
    assert counts == {word.encode(): 2 for word in words} | {b"a": 3}


def test_a_text_longer_than_a_piece_is_counted_whole(engine):
    """Texts that are read in pieces lose nothing between them."""
    text = "one two<eos> three's \u6f22\u5b57, \U0001f600 caf\u00e9\n" * 5000
    plain = text.split("<eos>")
    expected = Counter(word.encode() for piece in plain for word in pre_tokens(piece))
    assert count_words([text], "gpt2", ("<eos>",), engine=engine).as_dict() == expected


def test_texts_are_read_one_by_one_and_reported():
    """The iterable is read once, as it comes, and the callback hears how far."""
    heard = []
    assert count_words((text for text in ["ab", "cd ab"]), on_read=heard.append).as_dict() == {
        b"ab": 1,
        b"cd": 1,
        b" ab": 1,
    }
    assert heard[-1] == 7
    assert heard == sorted(heard)


def test_a_bad_text_is_named_by_its_place():
    """An item that cannot be encoded is an error that says which it is."""
    with pytest.raises(InputError, match=r"item 1 of training_data .* at character 1"):
        count_words(["a", "b\ud800"])
