"""What we write for other libraries, read by those libraries, on fuzzed and on real text.

Needs tokenizers below 1.0 and tiktoken, which come with `.[bench]`; without one of them its tests
are skipped. `test_interop.py` tests the same against their rules.
"""

import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from flows.formats.foreign_tokenizers import (
    load_gpt2,
    save_huggingface,
    save_tiktoken,
    settings_path,
)
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.interop import to_huggingface, to_tiktoken, usable_merges
from lmcore.tokenizer.pretokenize import Pattern
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.lmcore.tokenizer.test_interop import (
    EVERY_CODE_POINT,
    gpt2_files,
    gpt2_order,
    with_merges,
)
from tests.real_text import SEPARATOR, every_file, real_text
from tests.strategies import any_text, few_letters, tricky_text

needs_tokenizers = pytest.mark.skipif(
    find_spec("tokenizers") is None,
    reason='tokenizers is not installed: pip install -e ".[bench]"',
)
needs_tiktoken = pytest.mark.skipif(
    find_spec("tiktoken") is None, reason='tiktoken is not installed: pip install -e ".[bench]"'
)

PIECE_CHARACTERS = 100_000
SPECIAL = ("<|endoftext|>", "<eos>", " a b ", "\u00e9\u00e9")
OVERLAPPING = (*SPECIAL, "<eos><eos>", "><eos", "<e")
CORPUS = [
    "abc bc abab cab 's it's 123 12\n\n a  b <eos> \u00e9\u00e9 \u6f22\u6f22 caba abcabc 'll",
    "aaaa aaa bbb \U0001f600\U0001f600 \r\n\r\n  ,, !!",
] * 2
PATTERNS = ("gpt2", "gpt4", "whitespace", "none")
texts = st.one_of(
    any_text,
    few_letters,
    st.lists(st.one_of(st.sampled_from((*OVERLAPPING, ">", "<")), tricky_text)).map("".join),
)


@cache
def small(pattern: Pattern, special: tuple[str, ...]) -> Tokenizer:
    size = 256 + len(special) + 40
    return Tokenizer(*train_bpe(CORPUS, size, special, pattern=pattern), special, pattern)


@cache
def trained_on(name: str) -> Tokenizer:
    """3,000 tokens of a file of real text."""
    special = (SEPARATOR, "<eos>")
    return Tokenizer(*train_bpe([real_text(name)], 3_000, special), special)


def huggingface(tokenizer: Tokenizer) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(to_huggingface(tokenizer)))


def tiktoken_encoding(tokenizer: Tokenizer) -> Any:
    import tiktoken

    return tiktoken.Encoding(**to_tiktoken(tokenizer))


cached_huggingface, cached_tiktoken = cache(huggingface), cache(tiktoken_encoding)


# --- Hugging Face ---


@needs_tokenizers
@settings(deadline=None, max_examples=400)
@given(texts, st.sampled_from(PATTERNS))
def test_huggingface_encodes_and_decodes_any_text_alike(text, pattern):
    """Every pattern, special tokens that overlap: equal ids, and the text comes back."""
    tokenizer = small(pattern, OVERLAPPING)
    theirs = cached_huggingface(tokenizer)
    assert theirs.encode(text).ids == tokenizer.encode(text)
    plain = tokenizer.encode(text, allow_special=False)
    assert theirs.decode(plain, skip_special_tokens=False) == text


@pytest.mark.slow
@needs_tokenizers
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "whitespace"])
def test_huggingface_cuts_every_code_point_alike(pattern):
    """Whatever Unicode version it has, the classes are ours: each code point by itself."""
    tokenizer = small(pattern, ())
    assert huggingface(tokenizer).encode(EVERY_CODE_POINT).ids == tokenizer.encode(EVERY_CODE_POINT)


@needs_tokenizers
def test_huggingface_knows_a_special_token_that_a_merge_makes_too():
    """Two writings of one id in the file are no trouble to it."""
    tokenizer = with_merges((b" ", b"x"), (b" x", b"y"), special=(" x",))
    for text in (" x", "a xy", "a x", " xy x"):
        assert huggingface(tokenizer).encode(text).ids == tokenizer.encode(text)


@needs_tokenizers
@every_file
def test_huggingface_encodes_real_text_alike(name, tmp_path):
    """Equal ids on the whole file, through a file of our own."""
    import tokenizers

    tokenizer, text = trained_on(name), real_text(name)
    save_huggingface(tmp_path / "tokenizer.json", tokenizer)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    # Piece by piece: it needs some hundred bytes a token.
    for start in range(0, len(text), PIECE_CHARACTERS):
        piece = text[start : start + PIECE_CHARACTERS]
        assert np.array_equal(theirs.encode(piece).ids, tokenizer.encode_batch([piece])[0])


# --- tiktoken ---


@needs_tiktoken
@settings(deadline=None, max_examples=400)
@given(texts, st.sampled_from(PATTERNS))
def test_tiktoken_encodes_and_decodes_any_text_alike(text, pattern):
    """Every pattern, special tokens or none: equal ids, and the text comes back."""
    for special in (SPECIAL, ()):
        tokenizer = small(pattern, special)
        theirs = cached_tiktoken(tokenizer)
        ids = theirs.encode(text, allowed_special="all")
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids) == text
        assert theirs.encode_ordinary(text) == tokenizer.encode(text, allow_special=False)


@pytest.mark.slow
@needs_tiktoken
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "whitespace"])
def test_tiktoken_cuts_every_code_point_alike(pattern):
    """Whatever Unicode version it has, the classes are ours: each code point among others."""
    tokenizer = small(pattern, ())
    text = "".join(f"{character}a 1" for character in EVERY_CODE_POINT)
    assert np.array_equal(
        tiktoken_encoding(tokenizer).encode_to_numpy(text), tokenizer.encode_batch([text])[0]
    )


@needs_tiktoken
@every_file
def test_tiktoken_encodes_real_text_alike(name, tmp_path):
    """Equal ids on the whole file, at once, through files of our own."""
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    tokenizer, text = trained_on(name), real_text(name)
    path = tmp_path / "ours.tiktoken"
    save_tiktoken(path, tokenizer)
    encoding = tiktoken.Encoding(
        mergeable_ranks=load_tiktoken_bpe(str(path)),
        **json.loads(settings_path(path).read_text("utf-8")),
    )
    theirs = encoding.encode_to_numpy(text, allowed_special="all")
    assert np.array_equal(theirs, tokenizer.encode_batch([text])[0])


# --- GPT-2's files ---


def tiktoken_gpt2(folder: Path) -> Any:
    """The encoding of a folder's files, made as tiktoken makes its own from the published."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding(
        "gpt2",
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens={SEPARATOR: len(ranks)},
    )


@needs_tiktoken
@every_file
def test_gpt_2_s_files_encode_as_tiktoken_s_own_reader_of_them(name, tmp_path):
    """Files in GPT-2's format, read by us and by what tiktoken reads GPT-2's with: equal ids."""
    text = real_text(name)
    encoder, vocab = gpt2_files(gpt2_order([text[:300_000]], n_merges=3_000))
    (tmp_path / "encoder.json").write_text(encoder, encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text(vocab, encoding="utf-8")
    ours = load_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    ids = tiktoken_gpt2(tmp_path).encode_to_numpy(text, allowed_special="all")
    assert np.array_equal(ids, ours.encode_batch([text])[0])


@pytest.fixture
def published() -> Path:
    """The folder of GPT-2's own files, as openai/gpt-2 published them."""
    folder = Path(os.environ.get("LMCORE_GPT2") or "no folder")
    if not (folder / "encoder.json").is_file():
        pytest.skip("set LMCORE_GPT2 to a folder with GPT-2's encoder.json and vocab.bpe")
    return folder


def test_gpt_2_itself_has_the_ids_that_are_known(published):
    """50,257 tokens, every merge usable; ids as printed in many places."""
    gpt2 = load_gpt2(published / "encoder.json", published / "vocab.bpe")
    assert gpt2.vocab_size == 50_257
    assert usable_merges(gpt2.merges) == gpt2.merges
    assert gpt2.encode("Hello world<|endoftext|>") == [15496, 995, 50256]


@needs_tiktoken
@every_file
def test_gpt_2_itself_encodes_real_text_as_tiktoken_does(name, published):
    """Equal ids on the whole file."""
    gpt2, text = load_gpt2(published / "encoder.json", published / "vocab.bpe"), real_text(name)
    theirs = tiktoken_gpt2(published)
    ids = theirs.encode_to_numpy(text, allowed_special="all")
    assert np.array_equal(ids, gpt2.encode_batch([text])[0])
