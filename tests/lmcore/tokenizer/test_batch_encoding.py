"""Encoding many texts on arrays, against encoding each."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer import batch_encoding, fast_encoding
from lmcore.tokenizer.batch_encoding import BatchEncoder
from lmcore.tokenizer.bpe import encode_by_definition
from lmcore.tokenizer.fast_encoding import merge_table
from lmcore.tokenizer.fast_training import train_bpe
from tests.strategies import few_letters, tricky_text

SPECIAL = ("<eos>", "<eos><eos>", "s")
CORPUS = ["abc bc abab cab 's it's 123 abcabcabc<eos> \u00e9\u00e9 \u6f22\u6f22 caba " * 2]
VOCAB, MERGES = train_bpe(CORPUS, 256 + 3 + 20, SPECIAL)
TABLE = merge_table({token: i for i, token in enumerate(VOCAB)}, MERGES)
WARM = BatchEncoder(TABLE)
IDS = {token: i for i, token in enumerate(SPECIAL)}
long_words = st.integers(1, 12).map(lambda n: "abc" * n)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.one_of(tricky_text, few_letters, long_words), max_size=8),
    st.sets(st.sampled_from(SPECIAL)),
    st.sampled_from([1, 20, 1 << 21]),
    st.sampled_from([0, 3, 1 << 20]),
    st.sampled_from([0, 1 << 20]),
)
def test_every_text_is_encoded_as_by_definition(engine, texts, special, size, remembered, few):
    """In batches of any size, with any special tokens, the ids of each text are the oracle's.

    Whether the words are known or new, and whether they are merged one by one or side by side.
    """
    find = {token: IDS[token] for token in special}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_encoding, "BATCH_CHARACTERS", size)
        patch.setattr(batch_encoding, "REMEMBERED_WORDS", remembered)
        patch.setattr(fast_encoding, "FEW_WORDS", few)
        ids, offsets = BatchEncoder(TABLE).encode(texts, find, engine)
        again, _ = WARM.encode(texts, find, engine)
    assert again.tolist() == ids.tolist()
    found = [ids[start:end].tolist() for start, end in pairwise(offsets)]
    assert found == [encode_by_definition(text, VOCAB, MERGES, tuple(special)) for text in texts]
    assert (ids.dtype, offsets.dtype) == ("uint32", "int64")


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""]])
def test_no_text_has_no_ids(engine, texts):
    """Nothing, and texts of nothing, give an empty array and their offsets."""
    ids, offsets = BatchEncoder(TABLE).encode(iter(texts), IDS, engine)
    assert ids.tolist() == []
    assert offsets.tolist() == [0] * (len(texts) + 1)


def test_a_byte_that_is_no_token_is_refused_and_forgotten(engine):
    """The error names the byte, and the next text is encoded as if it had not been."""
    encoder = BatchEncoder(merge_table({b"a": 0, b"b": 1, b"ab": 2}, {(b"a", b"b"): b"ab"}))
    with pytest.raises(InputError, match="the byte 0x63"):
        encoder.encode(["abc"], {}, engine)
    assert encoder.encode(["abb"], {}, engine)[0].tolist() == [2, 1]


def test_threads_may_share_an_encoder(engine):
    """Each gets the ids of its texts, whatever words the others bring at the same time."""
    encoder = BatchEncoder(TABLE)
    texts = [[f"{i} {j}abc {i * j}bc abab" * 50 for j in range(40)] for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda mine: encoder.encode(mine, {}, engine)[0].tolist(), texts))
    assert found == [encoder.encode(mine, {}, engine)[0].tolist() for mine in texts]
    assert found == [BatchEncoder(TABLE).encode(mine, {})[0].tolist() for mine in texts]


def test_memory_of_long_words_is_bounded(engine, monkeypatch):
    """Words without end, none seen twice, are forgotten when they are many bytes."""
    monkeypatch.setattr(batch_encoding, "REMEMBERED_BYTES", 10_000)
    encoder = BatchEncoder(TABLE)
    held = []
    for i in range(40):
        text = "abc" * (300 + i)
        ids, _ = encoder.encode([text, text], {}, engine)
        assert ids.tolist() == encode_by_definition(text, VOCAB, MERGES) * 2
        held.append(sum(map(len, encoder.table.others)))
    assert max(held) <= 12_000
    assert encoder.n_used <= 12_000
