"""Training, as the assignment asks for it: known answers that a learner can check by hand."""

import warnings

import pytest

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import VocabularyNotFilled
from lmcore.tokenizer.fast_training import train_bpe

# The corpus of Sennrich et al. (2016) as the assignment's handout uses it, a word a text.
WORDS = ["low"] * 5 + ["lower"] * 2 + ["widest"] * 3 + ["newest"] * 6


def test_the_handout_s_six_merges():
    """The handout's example gives its merges, in its order, ties to the greatest pair."""
    vocab, merges = train_bpe(WORDS, 1 + 256 + 6, ("<|endoftext|>",))
    assert [b" ".join(pair) for pair in merges] == [
        b"s t",
        b"e st",
        b"o w",
        b"l ow",
        b"w est",
        b"n e",
    ]
    assert vocab[257:] == [b"st", b"est", b"ow", b"low", b"west", b"ne"]


def test_the_handout_s_twelve_merges():
    """Six more merges give the rest of the handout's list."""
    _, merges = train_bpe(WORDS, 1 + 256 + 12, ("<|endoftext|>",))
    assert list(merges.values())[6:] == [b"newest", b"wi", b"wid", b"widest", b"lowe", b"lower"]


def test_the_vocabulary_is_specials_then_bytes_then_merges():
    """Special tokens come first, then the 256 bytes, then the merges as they were made."""
    vocab, merges = train_bpe(["aaab" * 4], 3 + 256 + 2)
    assert vocab[:3] == [b"<pad>", b"<eos>", b"<bos>"]
    assert vocab[3:259] == [bytes([byte]) for byte in range(256)]
    assert vocab[259:] == list(merges.values())
    assert all(token == left + right for (left, right), token in merges.items())


def test_ties_go_to_the_greatest_pair_of_bytes():
    """Of equally frequent pairs, the one that sorts last as a pair of byte strings is merged."""
    vocab, merges = train_bpe(["ab", "ba", "bz", "zb", "z\u00e9"], 256 + 3, ())
    assert list(merges) == [(b"\xc3", b"\xa9"), (b"z", b"\xc3\xa9"), (b"z", b"b")]
    assert vocab[256:] == [b"\xc3\xa9", b"z\xc3\xa9", b"zb"]


def test_a_pair_compares_by_its_tokens_not_by_their_join():
    """(a, c) beats (a, bz), and of two left tokens with one beginning the longer is greater."""
    # bz is made first (4 times); then (a, c) and (a, bz) are seen twice each.
    _, merges = train_bpe(["abz", "abz", "bz", "bz", "ac", "ac"], 256 + 3, ())
    assert list(merges) == [(b"b", b"z"), (b"a", b"c"), (b"a", b"bz")]
    # ab (4 times); then (ab, x) beats (a, y) though x < y.
    _, merges = train_bpe(["ab", "ab", "abx", "abx", "ay", "ay"], 256 + 2, ())
    assert list(merges) == [(b"a", b"b"), (b"ab", b"x")]


def test_runs_of_one_letter_merge_from_left_to_right():
    """aaaaa has four pairs a, a, and becomes aa, aa, a."""
    _, merges = train_bpe(["aaaaa", "aab", "aab"], 256 + 2, ())
    assert list(merges) == [(b"a", b"a"), (b"aa", b"b")]


def test_special_tokens_split_the_text_and_are_never_merged():
    """No merge contains a piece of a special token or crosses one."""
    vocab, merges = train_bpe(["ab<eos>ab<eos>ab"] * 5, 1 + 256 + 1, ("<eos>",))
    assert list(merges) == [(b"a", b"b")]
    assert vocab[0] == b"<eos>"
    with pytest.warns(VocabularyNotFilled):
        _, merges = train_bpe(["a<eos>b"] * 5, 300, ("<eos>",))
    assert merges == {}


def test_merges_do_not_cross_pre_tokens_or_texts():
    """A space begins a new word, and a text begins a new word."""
    with pytest.warns(VocabularyNotFilled):
        vocab, _ = train_bpe(["x y", "x", "y"], 400, ())
    assert vocab[256:] == [b" y"]


def test_stops_early_and_says_so():
    """With no pair left the vocabulary is shorter than asked, and a warning says so."""
    with pytest.warns(VocabularyNotFilled, match="has 258 tokens, not 300"):
        vocab, merges = train_bpe(["abc"], 300, ())
    assert vocab[256:] == [b"bc", b"abc"]
    assert len(merges) == 2


def test_a_full_vocabulary_warns_of_nothing():
    """Reaching the size asked for, even 256 of no text, is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train_bpe([], 256, ()) == ([bytes([b]) for b in range(256)], {})


def test_defaults_are_the_assignment_s():
    """Without arguments: 32,000 tokens aimed at, three special tokens."""
    with pytest.warns(VocabularyNotFilled, match="not 32000"):
        vocab, _ = train_bpe(iter(["hello hello"]))
    assert vocab[:3] == [b"<pad>", b"<eos>", b"<bos>"]


def test_vocab_size_too_small_is_refused_with_the_remedy():
    """The message says what was expected, what came and what to do."""
    with pytest.raises(InputError) as caught:
        train_bpe(["text"], vocab_size=200)
    assert str(caught.value) == (
        "vocab_size is 200: it must be at least 259 (256 bytes + 3 special tokens); "
        "raise --tokenizer.vocab-size or drop special tokens"
    )
