"""Vocabularies of every size come from one training."""

import pytest

from benchmarks.vocabulary.texts import SEPARATOR
from benchmarks.vocabulary.trained import bytes_per_token, n_tokens, tokenizers
from lmcore import Tokenizer, train_bpe
from lmcore.synthetic.stories import stories

TEXT = "\n\n".join(stories(seed=0, start=0, count=40))
SIZES = [257, 258, 300, 500]


@pytest.mark.parametrize("size", SIZES)
def test_the_beginning_of_a_large_vocabulary_is_the_small_one(size: int) -> None:
    """What is cut from the largest equals what training to that size gives."""
    vocab, merges = train_bpe([TEXT], size, (SEPARATOR,))
    assert tokenizers([TEXT], SIZES)[size] == Tokenizer(vocab, merges, (SEPARATOR,))


def test_tokens_are_those_of_encode() -> None:
    """Counts and means are of the ids that `encode` gives, and of UTF-8 bytes."""
    made = tokenizers([TEXT], [300])[300]
    text = TEXT[:500] + "é"
    assert n_tokens(made, text) == len(made.encode(text))
    assert bytes_per_token(made, text) == len(text.encode()) / len(made.encode(text))
