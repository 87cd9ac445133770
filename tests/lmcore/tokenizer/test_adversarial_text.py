"""Texts that a fast tokenizer could get wrong, or never finish with."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer.bpe import encode_by_definition
from lmcore.tokenizer.fast_training import merge_words, train_bpe
from lmcore.tokenizer.interop import pinned_pattern
from lmcore.tokenizer.pretokenize import PATTERNS, pre_tokens, split_special
from lmcore.tokenizer.segments import PIECE_CHARACTERS
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.tokenizer_oracles import encode_by_ranks, merges_by_heap, merges_by_replacing

BYTES = [bytes([byte]) for byte in range(256)]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
EVERY_CODE_POINT = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def drawn(letters: str, n: int) -> str:
    """The same text on every run."""
    return "".join(random.Random(n).choices(letters, k=n))


def word_counts(text: str, pattern) -> dict[bytes, int]:
    return {word.encode(): n for word, n in Counter(pre_tokens(text, pattern)).items()}


CORPORA = {
    "one character": ("a" * 5_000, 8),
    "one character, odd": ("a" * 4_099, 12),
    "a pair": ("ab" * 2_500, 8),
    "a triple": ("aba" * 1_700, 12),
    "runs of every length": (" ".join("a" * n for n in range(1, 100)), 60),
    "white space of one kind": (" " * 3_000, 8),
    "white space of every kind": (drawn(" \n\r\t\u00a0\u3000\u2028\x85", 3_000), 40),
    "two letters": (drawn("ab", 4_000), 60),
    "two letters in words": (drawn("ab  ", 4_000), 60),
    "digits and signs": (drawn("0123456789.,!'\n", 4_000), 60),
    "ties": (" ".join(f"{a}{b}" for a in LETTERS for b in LETTERS), 200),
    "bytes of no character": ("\u00e9\u00e8\u03b1\u6f22\U0001f600" * 300, 12),
}


@pytest.mark.parametrize("pattern", list(PATTERNS))
@pytest.mark.parametrize("corpus", CORPORA)
def test_merges_and_ids_are_exact(corpus, pattern):
    """Merges are those of a trainer with a heap, ids those of the definition."""
    text, n_tokens = CORPORA[corpus]
    expected = merges_by_heap(word_counts(text, pattern), n_tokens)
    n_made = len({left + right for left, right in expected})
    vocab, merges = train_bpe([text], 256 + n_made, (), pattern=pattern)
    assert list(merges) == expected
    tokenizer = Tokenizer(vocab, merges, (), pattern)
    ids = encode_by_definition(text, vocab, merges, pattern=pattern)
    assert tokenizer.encode(text) == ids
    assert tokenizer.encode_batch([text, text])[0].tolist() == ids * 2
    cut = len(text) // 3
    assert list(tokenizer.encode_iterable([text[:cut], text[cut:]])) == ids


@pytest.mark.parametrize("n_tokens", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("letters", ["ab", LETTERS])
def test_a_word_of_a_megabyte_is_merged_exactly(letters, n_tokens):
    """One word of a million letters: every merge, and every id, is that of `str.replace`."""
    word = drawn(letters, 1_000_000).encode()
    vocab, merges = train_bpe([word.decode()], 256 + n_tokens, (), pattern="none")
    assert list(merges) == merges_by_replacing([word], n_tokens)
    text, tokens = word.decode("latin-1"), {byte: chr(byte[0]) for byte in BYTES}
    for (left, right), token in merges.items():  # the order of training is the order of encoding
        tokens[token] = chr(len(tokens))
        text = text.replace(tokens[left] + tokens[right], tokens[token])
    ids, _ = Tokenizer(vocab, merges, (), "none").encode_batch([word.decode()])
    assert ids.tolist() == [ord(token) for token in text]


@pytest.mark.parametrize(
    ("pattern", "n_tokens"),
    [
        ("gpt2", 6),
        pytest.param("gpt2", 25, marks=pytest.mark.slow),
        pytest.param("gpt4", 25, marks=pytest.mark.slow),
        pytest.param("whitespace", 25, marks=pytest.mark.slow),
        pytest.param("none", 25, marks=pytest.mark.slow),
    ],
)
def test_every_code_point_once(pattern, n_tokens):
    """A word of all letters of a script, signs without end: exact, and the text comes back."""
    words = [word.encode() for word in pre_tokens(EVERY_CODE_POINT, pattern)]
    expected = merges_by_replacing(words, n_tokens)
    vocab, merges = train_bpe([EVERY_CODE_POINT], 256 + n_tokens, (), pattern=pattern)
    assert list(merges) == expected
    tokenizer = Tokenizer(vocab, merges, (), pattern)
    ids, _ = tokenizer.encode_batch([EVERY_CODE_POINT])
    assert tokenizer.decode_bytes(ids.tolist()) == EVERY_CODE_POINT.encode()


# --- counts ---

LARGE = st.one_of(
    st.integers(1, 3),
    st.integers(0, 3).map(lambda more: (1 << 31) + more - 1),
    st.integers(0, 3).map(lambda more: (1 << 32) + more - 1),
    st.integers(0, 3).map(lambda more: (1 << 40) + more - 1),
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8).map(str.encode), LARGE, max_size=8))
def test_counts_past_32_bits_are_exact(words):
    """Words seen billions of times, where one more or less decides: the merges are exact."""
    expected = merges_by_heap(words, 12)
    vocab = list(BYTES)
    merges = merge_words(words, vocab, 256 + 12, lambda n: None)
    assert list(merges) == expected


def test_a_count_of_more_than_32_bits_is_no_small_count():
    """2^32 + 1 is more than 2, and 2^40 + 1 is more than 2^40."""
    words = {b"ab": (1 << 32) + 1, b"cd": 2, b"ef": 1 << 40, b"gh": (1 << 40) + 1}
    merges = merge_words(words, list(BYTES), 260, lambda n: None)
    assert [left + right for left, right in merges] == [b"gh", b"ef", b"ab", b"cd"]


# --- special tokens ---

SPECIAL = ("<|end of text|>", "<|end", " of text|>", "|>", "  a", "  ", "\n", "e", "e o")
TEXTS = (
    "once <|end of text|><|end of text|> <|end of tex|> the end of it|>",
    "a   a  a    a \n\n  a\n ",
    "e e o e of text|> e  a<|end<|end of text|>e",
)


@pytest.mark.parametrize("pattern", list(PATTERNS))
@pytest.mark.parametrize("text", TEXTS)
def test_special_tokens_at_every_border_of_chunks(text, pattern):
    """Cut anywhere, in two or in single characters, the longest special token is found."""
    tokenizer, expected = with_special_tokens(text, pattern)
    assert tokenizer.encode(text) == tokenizer.encode_batch([text])[0].tolist() == expected
    for cut in range(len(text) + 1):
        assert list(tokenizer.encode_iterable([text[:cut], text[cut:]])) == expected
    assert list(tokenizer.encode_iterable([*text])) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_special_tokens_at_every_border_of_pieces(text):
    """Wherever a stream is cut while it is read, the longest special token is found there."""
    tokenizer, expected = with_special_tokens(text, "gpt2")
    (filler,) = set(tokenizer.encode("<|end" * 3))
    for shift in range(len(text) + 1):
        n = (PIECE_CHARACTERS - shift) // len("<|end")
        ahead = "x" * ((PIECE_CHARACTERS - shift) % len("<|end")) + "<|end" * n
        ids = list(tokenizer.encode_iterable([ahead + text]))
        assert ids[-len(expected) :] == expected
        assert ids[-len(expected) - 1] == filler


def with_special_tokens(text: str, pattern) -> tuple[Tokenizer, list[int]]:
    """A tokenizer of the texts, and the ids of one of them by rules of its own."""
    vocab, merges = train_bpe(list(TEXTS), 256 + len(SPECIAL) + 6, SPECIAL, pattern=pattern)
    expected = encode_by_ranks(
        text,
        pinned_pattern(pattern),
        {token: token_id for token_id, token in enumerate(vocab) if token_id >= len(SPECIAL)},
        {token: token_id for token_id, token in enumerate(SPECIAL)},
    )
    return Tokenizer(vocab, merges, SPECIAL, pattern), expected


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_special_tokens_are_no_part_of_any_merge(pattern):
    """What stands between special tokens is trained on, and nothing of theirs."""
    text = "<|end of text|>".join(TEXTS) * 5
    words = Counter(
        word.encode()
        for plain in split_special(text, SPECIAL)[::2]
        for word in pre_tokens(plain, pattern)
    )
    _, merges = train_bpe([text], 256 + len(SPECIAL) + 6, SPECIAL, pattern=pattern)
    assert list(merges) == merges_by_heap(words, 6)


# --- nothing is quadratic ---

TEN_MEGABYTES = 10_000_000
ENDLESS = {
    "letters": drawn(LETTERS, 100_000) * 100,
    "one letter": "a" * TEN_MEGABYTES,
    "spaces": " " * TEN_MEGABYTES,
    "signs": drawn("!?.,", 100_000) * 100,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDLESS)
def test_ten_megabytes_without_a_place_to_cut_complete(kind):
    """One pre-token of ten megabytes trains and encodes; in quadratic time it would take days."""
    text = ENDLESS[kind]
    assert len(pre_tokens(text)) == 1
    tokenizer = Tokenizer(*train_bpe([text], 270, ()))
    ids, _ = tokenizer.encode_batch([text])
    assert len(ids) < TEN_MEGABYTES
    assert tokenizer.decode_bytes(ids.tolist()) == text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_ten_megabytes_without_a_place_to_cut_are_streamed(pattern):
    """Read in small chunks and held until its end, it is not read again for each of them."""
    text = ENDLESS["letters"]
    chunks = (text[start : start + 100] for start in range(0, len(text), 100))
    ids = Tokenizer(BYTES, {}, (), pattern).encode_iterable(chunks)
    assert bytes(ids) == text.encode()


def test_the_pairs_of_a_run_are_halved():
    """Of a run of one letter every second pair is merged, whatever the length."""
    for n in range(2, 40):
        _, merges = train_bpe(["a" * n], 256 + n.bit_length() - 1, (), pattern="none")
        lengths = [len(left) for left, _ in merges]
        assert all(second == 2 * first for first, second in pairwise(lengths))
