"""The definition itself, against answers worked out by hand."""

import pytest
from hypothesis import given, settings

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import (
    BpeState,
    VocabularyNotFilled,
    count_pairs,
    decode,
    decode_bytes,
    encode_by_definition,
    first_vocab,
    merge_best_pair,
    merge_pair,
    merge_word,
    special_token_ids,
    train_by_definition,
)
from tests.strategies import any_text

A, B, C, D = b"a", b"b", b"c", b"d"


def test_training_by_definition_gives_the_handout_s_merges():
    """The handout's corpus and its first six merges."""
    words = ["low"] * 5 + ["lower"] * 2 + ["widest"] * 3 + ["newest"] * 6
    vocab, merges = train_by_definition(words, 263, ("<|endoftext|>",))
    assert vocab[257:] == [b"st", b"est", b"ow", b"low", b"west", b"ne"]
    assert list(merges.values()) == vocab[257:]


def test_pairs_are_counted_with_overlaps_and_weights():
    """a, a, a holds two pairs a, a, and each counts as often as its word."""
    assert count_pairs({(A, A, A): 2, (A, B): 3}) == {(A, A): 4, (A, B): 3}


def test_pairs_merge_from_left_to_right():
    """Overlapping pairs go to the left one."""
    assert merge_pair((A, A, A, A, A, B), (A, A)) == (b"aa", b"aa", A, B)


def test_a_step_makes_a_new_state_and_leaves_the_old_one():
    """A step is pure: the state that it was given is what it was."""
    words = {(A, B): 1}
    state = BpeState(words, count_pairs(words), first_vocab(()), {})
    after = merge_best_pair(state)
    assert (after.words, after.merges) == ({(b"ab",): 1}, {(A, B): b"ab"})
    assert after.vocab == (*state.vocab, b"ab")
    assert (state.words, state.merges, len(state.vocab)) == ({(A, B): 1}, {}, 256)


def test_a_pair_whose_bytes_are_a_token_takes_no_new_id():
    """After ab + c, a + bc merges into the same token: in merges, and no longer vocabulary."""
    words = {(A, b"bc"): 2, (b"abc", D): 1}
    merges = {(A, B): b"ab", (b"ab", C): b"abc", (B, C): b"bc"}
    vocab = (*first_vocab(()), b"ab", b"abc", b"bc")
    after = merge_best_pair(BpeState(words, count_pairs(words), vocab, merges))
    assert after.vocab == vocab
    assert after.merges == {**merges, (A, b"bc"): b"abc"}
    assert after.words == {(b"abc",): 2, (b"abc", D): 1}


def test_early_stop_warns():
    """The oracle says that it stopped early, as its twin does."""
    with pytest.warns(VocabularyNotFilled, match="has 257 tokens, not 258"):
        train_by_definition(["ab"], 258, ())


def test_a_lower_rank_that_a_merge_brings_up_waits_for_its_turn():
    """All places of a pair are merged before the next pair is looked for.

    After a + bc makes abc, the pair abc, a would come first, but the second a + bc goes before.
    """
    ranks = {(b"abc", A): 0, (B, C): 1, (A, b"bc"): 2}
    assert merge_word((A, B, C, A, B, C), ranks) == (b"abc", b"abc")


def test_encoding_by_definition_takes_the_first_merge_first():
    """The order of merges, not the place in the word, decides."""
    vocab = [A, B, C, b"bc", b"ab"]
    assert encode_by_definition("abc", vocab, {(B, C): b"bc", (A, B): b"ab"}) == [0, 3]
    assert encode_by_definition("abc", vocab, {(A, B): b"ab", (B, C): b"bc"}) == [4, 2]


@settings(deadline=None)
@given(any_text)
def test_without_merges_encoding_is_utf8(text):
    """With the bytes alone, ids are the bytes of the text."""
    vocab = list(first_vocab(()))
    assert encode_by_definition(text, vocab, {}) == list(text.encode())
    assert decode(text.encode(), vocab) == text


def test_of_equal_tokens_the_first_is_the_special_one():
    """A special token of one byte and that byte have two ids."""
    vocab = list(first_vocab(("a",)))
    assert special_token_ids(("a",), vocab) == {"a": 0}
    assert encode_by_definition("ab", vocab, {}, ("a",)) == [0, 99]
    assert encode_by_definition("ab", vocab, {}) == [98, 99]


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        (("<eos>",), "special token '<eos>' is not in the vocabulary of 256 tokens"),
        (("",), "must not be empty"),
        (("a", "a"), "it already is"),
    ],
)
def test_special_tokens_that_cannot_be_are_refused(special_tokens, message):
    """Special tokens must be in the vocabulary, not empty, and given once."""
    with pytest.raises(InputError, match=message):
        encode_by_definition("a", first_vocab(()), {}, special_tokens)


def test_a_byte_without_a_token_is_an_error():
    """A vocabulary that lacks a byte cannot encode a text that has it."""
    with pytest.raises(InputError, match="the text has the byte 0x62"):
        encode_by_definition("ab", [A], {})


def test_decoding_takes_any_iterable_of_ids():
    """A generator, and numpy's integers, will do."""
    assert decode_bytes((i for i in (1, 0)), [A, B]) == b"ba"
    assert decode([], [A]) == ""
