"""Encoding and decoding, as the assignment asks for them: known answers and round trips."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import decode, decode_bytes
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer, encode

SPECIAL = ("<pad>", "<eos>", "<bos>")
TEXT = "low low low low low lower lower widest widest newest newest newest it's 42, na\u00efve."
VOCAB, MERGES = train_bpe([TEXT] * 3, 3 + 256 + 24, SPECIAL)
STORIES = Path(__file__).parents[2] / "shared" / "data" / "tinystories_valid_100kb.txt"


def test_the_handout_s_encoding_example():
    """The handout's vocabulary and merges turn "the cat ate" into its ids."""
    vocab = [b" ", b"a", b"c", b"e", b"h", b"t", b"th", b" c", b" a", b"the", b" at"]
    pairs = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
    merges = {(left, right): left + right for left, right in pairs}
    assert encode("the cat ate", vocab, merges) == [9, 7, 1, 5, 10, 3]
    assert decode([9, 7, 1, 5, 10, 3], vocab) == "the cat ate"


@pytest.mark.parametrize(
    "text", ["", "s", "\U0001f643", "Hello, how are you?", "H\u00e9ll\u00f2 \U0001f643", " \n\n a "]
)
def test_known_texts_come_back(text):
    """Encoding and decoding give the text back."""
    assert decode(encode(text, VOCAB, MERGES), VOCAB) == text


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(text):
    """Encoding and decoding lose nothing, whatever the str."""
    assert decode(encode(text, VOCAB, MERGES, SPECIAL), VOCAB) == text


@settings(deadline=None)
@given(st.lists(st.integers(0, len(VOCAB) - 1)))
def test_any_ids_have_bytes(ids):
    """decode_bytes joins the tokens, and decode is its text with U+FFFD for what is not UTF-8."""
    raw = b"".join(VOCAB[i] for i in ids)
    assert decode_bytes(ids, VOCAB) == raw
    assert decode(ids, VOCAB) == raw.decode("utf-8", errors="replace")


def test_special_tokens_given_are_one_id_each():
    """A special token that is given becomes its id; the text around it is encoded on its own."""
    ids = encode("<bos>low<eos><eos>", VOCAB, MERGES, SPECIAL)
    assert ids == [2, VOCAB.index(b"low"), 1, 1]


def test_special_tokens_not_given_are_plain_text():
    """Without special_tokens their characters are encoded as any others."""
    ids = encode("<eos>", VOCAB, MERGES)
    assert 1 not in ids
    assert len(ids) == 5
    assert encode("<pad><eos>", VOCAB, MERGES, ("<pad>",)) == [0, *ids]


def test_overlapping_special_tokens_the_longest_wins():
    """Of special tokens that begin at one place the longest is taken, in whatever order given."""
    special = ("<eos>", "<eos><eos>")
    vocab, merges = train_bpe(["x"], 258, special)
    assert encode("<eos><eos><eos>", vocab, merges, special) == [1, 0]
    assert encode("<eos><eos><eos>", vocab, merges, special[:1]) == [0, 0, 0]


def test_encode_iterable_gives_the_ids_of_the_whole():
    """Chunks of any size, cutting words and special tokens, change nothing."""
    tokenizer = Tokenizer(VOCAB, MERGES, SPECIAL)
    text = f"{TEXT}<eos>{TEXT}  \n <bos>"
    whole = tokenizer.encode(text)
    for size in (1, 2, 3, 7, 1000):
        chunks = (text[i : i + size] for i in range(0, len(text), size))
        assert list(tokenizer.encode_iterable(chunks)) == whole


def test_encode_batch_is_encode_in_flat_arrays():
    """ids[offsets[i]:offsets[i + 1]] are the ids of text i."""
    tokenizer = Tokenizer(VOCAB, MERGES, SPECIAL)
    texts = [TEXT, "", "newest<eos>", "\u6f22"]
    ids, offsets = tokenizer.encode_batch(texts)
    assert (ids.dtype, offsets.dtype) == ("uint16", "int64")
    parts = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert parts == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("bad", [-1, len(VOCAB), 10**9])
def test_an_id_out_of_range_is_an_error(bad):
    """A negative id does not count from the end, and a large one is no IndexError."""
    with pytest.raises(InputError, match=rf"ids\[1\] is {bad}: .*less than {len(VOCAB)}"):
        decode([0, bad], VOCAB)


def test_invalid_utf8_becomes_the_replacement_character():
    """A token that ends within a character decodes to U+FFFD; its bytes are kept."""
    ids = encode("\u00e9", [bytes([b]) for b in range(256)], {})
    assert decode(ids[:1], VOCAB[3:]) == "\ufffd"
    assert decode_bytes(ids[:1], VOCAB[3:]) == b"\xc3"


def test_real_stories_come_back_and_shrink():
    """TinyStories round trip, and a vocabulary of 1,000 gives more than 2 bytes a token."""
    if not STORIES.exists():
        pytest.skip(f"{STORIES} is not here: this test reads real stories")
    stories = STORIES.read_text(encoding="utf-8").split("<|endoftext|>")
    tokenizer = Tokenizer(*train_bpe(stories, 1000, ("<eos>",)), ("<eos>",))
    text = "<eos>".join(stories)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.token_lengths[ids].sum()) == len("".join(stories).encode())
    assert len(text.encode()) / len(ids) > 2
