"""A tokenizer's file: read back exactly, pleasant to read, damage named with its place."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from flows.disk.atomic import file_sha256
from flows.formats.tokenizer_json import (
    load_tokenizer,
    readable_json,
    save_tokenizer,
    tokenizer_digest,
)
from lmcore.errors import InputError
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer

SPECIAL = ("<pad>", "<eos>")


def with_merges(*pairs):
    """A tokenizer that merges these pairs, in this order."""
    merged = dict.fromkeys(left + right for left, right in pairs)
    vocab = [*(name.encode() for name in SPECIAL), *(bytes([b]) for b in range(256)), *merged]
    return Tokenizer(vocab, {pair: pair[0] + pair[1] for pair in pairs}, SPECIAL)


TOKENIZER = with_merges((b"l", b"o"), (b"lo", b"w"), (b"\xc3", b"\xa9"), (b" ", b"\n"))


@pytest.mark.filterwarnings("ignore::lmcore.tokenizer.bpe.VocabularyNotFilled")
@settings(deadline=None, max_examples=25)
@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_round_trip(tmp_path_factory, texts):
    """Any trained tokenizer comes back equal, and encodes alike."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer = Tokenizer(*train_bpe([text * 3 for text in texts], 280, SPECIAL), SPECIAL)
    save_tokenizer(path, tokenizer)
    loaded = load_tokenizer(path)
    assert loaded == tokenizer
    assert loaded.encode(texts[0]) == tokenizer.encode(texts[0])


def test_the_same_tokenizer_gives_the_same_bytes(tmp_path):
    """Bytes depend on the tokenizer alone; its digest is theirs; another has another."""
    save_tokenizer(tmp_path / "a", TOKENIZER)
    save_tokenizer(tmp_path / "b", load_tokenizer(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert tokenizer_digest(TOKENIZER) == file_sha256(tmp_path / "a")
    assert tokenizer_digest(with_merges((b"a", b"b"))) != tokenizer_digest(TOKENIZER)


def test_one_merge_a_line(tmp_path):
    """A person sees each token and each merge on a line of its own."""
    save_tokenizer(tmp_path / "a", TOKENIZER)
    lines = (tmp_path / "a").read_text(encoding="utf-8").splitlines()
    assert '    ["l", "o"],' in lines
    assert '    ["lo", "w"],' in lines
    assert '    "<eos>",' in lines
    assert len(lines) > len(TOKENIZER.vocab) + len(TOKENIZER.merges)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=st.dictionaries(st.text(), json_values, max_size=4))
def test_the_layout_is_json(value):
    """However the lines are laid out, what is read is what was written."""
    assert json.loads(readable_json(value)) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-40], r"is no JSON at line \d"),
        (lambda data: data.replace(b'"merges": [', b'"merges": ', 1), r"is no JSON at line \d"),
        (lambda data: b"", "is no JSON at line 1, column 1"),
        (lambda data: b"[" * 100_000, "is nested too deeply"),
        (lambda data: data.replace("é".encode(), b"\xff"), r"is not UTF-8 at byte \d"),
        (lambda data: data.replace(b'["lo", "w"]', b'["lo"]'), r"is damaged: merges\[\d+\]"),
        (lambda data: b"{}", "is damaged"),
        (lambda data: b"[]", "is damaged"),
    ],
    ids=["cut", "bracket", "empty", "deep", "bytes", "merge", "object", "list"],
)
def test_damage_is_named_with_its_place(tmp_path, change, message):
    """A damaged file is an InputError that names the file and the place in it."""
    path = tmp_path / "tokenizer.json"
    save_tokenizer(path, TOKENIZER)
    good = path.read_bytes()
    path.write_bytes(change(good))
    assert path.read_bytes() != good
    with pytest.raises(InputError, match=rf"tokenizer\.json {message}"):
        load_tokenizer(path)


def test_a_missing_file_is_named(tmp_path):
    """An absent file is an InputError that names it."""
    with pytest.raises(InputError, match=r"cannot read the tokenizer .*absent"):
        load_tokenizer(tmp_path / "absent")
