"""What cannot be written is found, by words, by characters and by bytes."""

import pytest
from hypothesis import given, strategies as st

from benchmarks.vocabulary.trained import tokenizers
from benchmarks.vocabulary.unknown import characters_of, most_frequent_words, written
from lmcore import Tokenizer

LEARNED = "the cat sat on the mat.\nthe cat ran."
WORDS = most_frequent_words(LEARNED, 3)
TOKENIZER = tokenizers([LEARNED], [265])[265]


def test_words_are_ranked_by_count_then_alphabet() -> None:
    """Of equally frequent words the first by the alphabet is in; the space before is no matter."""
    assert sorted(WORDS) == [".", "cat", "the"]


def test_shares_by_hand() -> None:
    """Three of five words are unknown, and three of 16 characters."""
    found = written("", "the dog sat, the", WORDS, characters_of(LEARNED), TOKENIZER)
    assert found.n_words == 5
    assert found.unknown_words == pytest.approx(3 / 5)  # dog, sat and the comma
    assert found.unknown_characters == pytest.approx(3 / 16)  # d, g and the comma
    assert found.bytes_per_token == 16 / len(TOKENIZER.encode("the dog sat, the"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_bytes_write_everything(text: str) -> None:
    """No text has an unknown byte."""
    assert written("", text, WORDS, set(), TOKENIZER).unknown_bytes == 0


def test_a_byte_that_is_lost_is_seen() -> None:
    """The zero is measured: a tokenizer that gives back other bytes has unknown ones."""

    class Lossy(Tokenizer):
        def decode_bytes(self, ids):
            return super().decode_bytes(ids).replace(b"b", b"?")

    lossy = Lossy([bytes([byte]) for byte in range(256)], {})
    assert written("", "ab ba", set(), set(), lossy).unknown_bytes == pytest.approx(2 / 5)
