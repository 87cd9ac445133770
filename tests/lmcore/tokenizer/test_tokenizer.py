"""The tokenizer as a value."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer import tokenizer as tokenizer_module
from lmcore.tokenizer.bpe import encode_by_definition
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer, encode
from tests.strategies import any_text, chunked, few_letters, patterns, tricky_text

BYTES = [bytes([byte]) for byte in range(256)]
CORPUS = [
    "abc bc abab cab 's it's 123 12\n\n a  b <eos> \u00e9\u00e9 \u6f22\u6f22 caba abcabc 'll",
    "aaaa aaa bbb \U0001f600\U0001f600 \r\n\r\n  ,, !!",
]
SPECIAL = ("<eos>", "<eos><eos>", "s")
TOKENIZERS = {
    pattern: Tokenizer(
        *train_bpe(CORPUS * 2, 256 + 3 + 40, SPECIAL, pattern=pattern), SPECIAL, pattern
    )
    for pattern in ("gpt2", "gpt4", "whitespace", "none")
}
special_subsets = st.sets(st.sampled_from(SPECIAL)).map(tuple)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(any_text, tricky_text, few_letters),
    patterns,
    special_subsets,
    st.sampled_from([0, 1 << 13]),
)
def test_encode_equals_the_definition(text, pattern, special_tokens, long_text):
    """Whatever the text, the pattern and the special tokens given, the ids are the oracle's.

    Whether the text is short, and encoded word by word, or long, and encoded on arrays.
    """
    whole = TOKENIZERS[pattern]
    arguments = (text, whole.vocab, whole.merges, special_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "LONG_TEXT_CHARACTERS", long_text)
        found = encode(*arguments, pattern=pattern)
    assert found == encode_by_definition(*arguments, pattern=pattern)


@settings(deadline=None)
@given(st.one_of(any_text, tricky_text), patterns, st.booleans())
def test_any_text_comes_back(text, pattern, allow_special):
    """decode undoes encode, and decode_bytes gives the UTF-8 bytes."""
    tokenizer = TOKENIZERS[pattern]
    ids = tokenizer.encode(text, allow_special=allow_special)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_come_back_through_decode_bytes(raw):
    """The ids of single bytes decode to those bytes, valid UTF-8 or not."""
    tokenizer = TOKENIZERS["gpt2"]
    ids = [len(SPECIAL) + byte for byte in raw]
    assert tokenizer.decode_bytes(ids) == raw
    assert tokenizer.decode(ids) == raw.decode(errors="replace")


@settings(deadline=None, max_examples=300)
@given(chunked(), patterns)
def test_encode_iterable_equals_encode_for_any_chunking(text_and_chunks, pattern):
    """Cut inside words, white space or special tokens, the ids are those of the whole."""
    text, chunks = text_and_chunks
    assert list(TOKENIZERS[pattern].encode_iterable(chunks)) == TOKENIZERS[pattern].encode(text)


def test_encode_iterable_is_the_same_on_text_longer_than_it_holds():
    """Texts of several pieces, cut at odd places, give the ids of one call."""
    text = "some words, it's 12 \u6f22\u5b57<eos><eos> \n\n  caf\u00e9 \U0001f600" * 8_000
    tokenizer = TOKENIZERS["gpt2"]
    chunks = (text[i : i + 9_973] for i in range(0, len(text), 9_973))
    ids = list(tokenizer.encode_iterable(chunks))
    assert ids == tokenizer.encode(text)
    period = text[: len(text) // 8_000]
    assert ids == encode_by_definition(period, tokenizer.vocab, tokenizer.merges, SPECIAL) * 8_000


def test_encode_iterable_is_lazy():
    """Ids come out of an endless stream, and little is read ahead."""
    n_read = 0

    def endless():
        nonlocal n_read
        while True:
            n_read += 1
            yield "abc bc " * 1_000

    ids = list(islice(TOKENIZERS["gpt2"].encode_iterable(endless()), 10))
    assert ids == TOKENIZERS["gpt2"].encode("abc bc " * 20)[:10]
    assert n_read <= 11


def test_special_tokens_can_be_plain_text():
    """With allow_special=False a text from a stranger makes no special token."""
    tokenizer = TOKENIZERS["gpt2"]
    assert tokenizer.encode("<eos><eos>") == [1]
    plain = tokenizer.encode("<eos>s", allow_special=False)
    assert not {0, 1, 2} & set(plain)
    assert tokenizer.decode(plain) == "<eos>s"


@settings(deadline=None)
@given(st.lists(tricky_text, max_size=5), patterns, st.booleans())
def test_encode_batch_equals_encode(texts, pattern, allow_special):
    """The flat array is the ids of the texts one after the other, the offsets say where."""
    tokenizer = TOKENIZERS[pattern]
    ids, offsets = tokenizer.encode_batch(texts, allow_special=allow_special)
    parts = [ids[offsets[i] : offsets[i + 1]].tolist() for i in range(len(texts))]
    assert parts == [tokenizer.encode(text, allow_special=allow_special) for text in texts]
    assert (len(offsets), offsets[0], offsets[-1]) == (len(texts) + 1, 0, len(ids))
    assert (ids.dtype, offsets.dtype) == (np.uint16, np.int64)


def test_a_vocabulary_beyond_16_bits_has_wider_ids():
    """65,536 tokens fit into uint16; with one more the ids are uint32."""
    extra = [b"x%d" % i for i in range(1 << 16)]
    fits, wide = Tokenizer((BYTES + extra)[: 1 << 16], {}), Tokenizer((BYTES + extra)[:65_537], {})
    assert fits.encode_batch(["a"])[0].dtype == np.uint16
    assert wide.encode_batch(["a"])[0].dtype == np.uint32


def test_token_lengths_count_raw_bytes():
    """Each token's own bytes are counted, valid UTF-8 or not; special tokens hold no text."""
    tokenizer = TOKENIZERS["gpt2"]
    assert tokenizer.token_lengths.dtype == np.int64
    assert tokenizer.token_lengths[:3].tolist() == [0, 0, 0]
    assert tokenizer.token_lengths[3:].tolist() == [len(token) for token in tokenizer.vocab[3:]]
    ids = tokenizer.encode("a \u6f22<eos>b")
    assert tokenizer.token_lengths[ids].sum() == len("a \u6f22b".encode())


def test_it_is_a_frozen_value():
    """Equal parts make equal, equally hashed tokenizers; no field can be set."""
    tokenizer = TOKENIZERS["gpt2"]
    same = Tokenizer(list(tokenizer.vocab), dict(tokenizer.merges), SPECIAL)
    assert same == tokenizer
    assert hash(same) == hash(tokenizer)
    with pytest.raises(FrozenInstanceError):
        tokenizer.pattern = "none"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        tokenizer.token_lengths[0] = 1


def test_what_differs_is_not_equal():
    """Another pattern, other special tokens, or merges in another order make another value."""
    vocab, merges = [*BYTES, b"ab", b"bc"], {(b"a", b"b"): b"ab", (b"b", b"c"): b"bc"}
    tokenizer = Tokenizer(vocab, merges)
    assert tokenizer != Tokenizer(vocab, dict(reversed(merges.items())))
    assert tokenizer != Tokenizer(vocab, merges, (), "gpt4")
    assert tokenizer != Tokenizer(vocab, merges, ("ab",))
    assert tokenizer != "tokenizer"


def test_later_changes_to_the_arguments_do_not_reach_it():
    """The lists that it was made of may change; it does not."""
    vocab, merges = [*BYTES, b"ab"], {(b"a", b"b"): b"ab"}
    tokenizer = Tokenizer(vocab, merges)
    vocab.append(b"zz")
    merges.clear()
    assert (tokenizer.vocab_size, tokenizer.encode("ab")) == (257, [256])


def test_copies_are_equal_and_carry_no_tables():
    """A copy for another process is the fields alone, whatever was encoded before."""
    fresh = Tokenizer(*train_bpe(CORPUS, 280, SPECIAL), SPECIAL)
    before = len(pickle.dumps(fresh))
    fresh.encode("many different words " + CORPUS[0])
    assert len(pickle.dumps(fresh)) == before
    for copied in (pickle.loads(pickle.dumps(fresh)), copy.deepcopy(fresh)):
        assert copied == fresh
        assert copied.encode(CORPUS[0]) == fresh.encode(CORPUS[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([*BYTES, b"ab", b"ab"], {}), r"vocab\[257\] is b'ab': it already is vocab\[256\]"),
        (([*BYTES, "ab"], {}), r"vocab\[256\] is 'ab': each token must be bytes"),
        (([*BYTES, b""], {}), r"vocab\[256\] is b'': each token must be bytes, and not empty"),
        ((BYTES, {(b"a", b"b"): b"ab"}), r"merges\[0\] names b'ab', which is not in the vocab"),
        (([*BYTES, b"ab"], {(b"a", b"c"): b"ab"}), r"merges\[0\] makes b'ab' of b'a' and b'c'"),
        ((BYTES, {}, ("<eos>",)), "special token '<eos>' is not in the vocabulary"),
        ((BYTES, {}, ("a", "a")), "it already is special_tokens"),
        ((BYTES, {}, "a"), "special_tokens is the str 'a'"),
        ((BYTES, {}, (), "gpt3"), "is 'gpt3': it must be one of"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    """A tokenizer that could not encode or decode rightly is never made."""
    with pytest.raises(InputError, match=message):
        Tokenizer(*arguments)


def test_every_fault_is_told_at_once():
    """Two broken merges are two lines of one error."""
    with pytest.raises(InputError) as caught:
        Tokenizer(BYTES, {(b"a", b"b"): b"ab", (b"b", b"c"): b"bc"})
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode("ab\ud800"), r"text holds the lone surrogate U\+D800 at character 2"),
        (lambda t: t.encode_batch(["a", "\udc00"]), "item 1 of texts holds the lone surrogate"),
        (lambda t: t.encode_batch("ab"), "texts is one str"),
        (lambda t: list(t.encode_iterable([b"a"])), "item 0 of iterable is a bytes"),
        (lambda t: t.decode([0, -1]), r"ids\[1\] is -1"),
        (lambda t: t.decode_bytes([t.vocab_size]), r"ids\[0\] is 299"),
    ],
)
def test_input_that_cannot_be_used_is_refused(call, message):
    """The message says what came and where."""
    with pytest.raises(InputError, match=message):
        call(TOKENIZERS["gpt2"])


def test_a_byte_without_a_token_is_an_error_when_it_comes_up():
    """A vocabulary without all bytes encodes what it can, and names the byte that it cannot."""
    tokenizer = Tokenizer([b"a"], {})
    assert tokenizer.encode("aa") == [0, 0]
    with pytest.raises(InputError, match="the text has the byte 0x62"):
        tokenizer.encode("ab")
