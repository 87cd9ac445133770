"""Encoding many texts on arrays, against encoding each."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.tokenizer import batch_encoding
from lmcore.tokenizer.batch_encoding import encode_batch_gpt2
from lmcore.tokenizer.bpe import encode_by_definition
from lmcore.tokenizer.fast_encoding import WordEncoder, merge_table
from lmcore.tokenizer.fast_training import train_bpe
from tests.strategies import few_letters, tricky_text

SPECIAL = ("<eos>", "<eos><eos>", "s")
CORPUS = ["abc bc abab cab 's it's 123 abcabcabc<eos> \u00e9\u00e9 \u6f22\u6f22 caba " * 2]
VOCAB, MERGES = train_bpe(CORPUS, 256 + 3 + 20, SPECIAL)
WORDS = WordEncoder(merge_table({token: i for i, token in enumerate(VOCAB)}, MERGES))
IDS = {token: i for i, token in enumerate(SPECIAL)}
long_words = st.integers(1, 12).map(lambda n: "abc" * n)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.one_of(tricky_text, few_letters, long_words), max_size=8),
    st.sets(st.sampled_from(SPECIAL)),
    st.sampled_from([1, 20, 1 << 21]),
)
def test_every_text_is_encoded_as_by_definition(texts, special, size):
    """In batches of any size, with any special tokens, the ids of each text are the oracle's."""
    usual = batch_encoding.BATCH_CHARACTERS
    try:
        batch_encoding.BATCH_CHARACTERS = size
        ids, offsets = encode_batch_gpt2(texts, WORDS, {token: IDS[token] for token in special})
    finally:
        batch_encoding.BATCH_CHARACTERS = usual
    found = [ids[start:end].tolist() for start, end in pairwise(offsets)]
    assert found == [encode_by_definition(text, VOCAB, MERGES, tuple(special)) for text in texts]
    assert (ids.dtype, offsets.dtype) == ("uint32", "int64")


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""]])
def test_no_text_has_no_ids(texts):
    """Nothing, and texts of nothing, give an empty array and their offsets."""
    ids, offsets = encode_batch_gpt2(iter(texts), WORDS, IDS)
    assert ids.tolist() == []
    assert offsets.tolist() == [0] * (len(texts) + 1)
