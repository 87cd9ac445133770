"""A tokenizer as JSON."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.serial import from_json_value, shown, to_json_value, unshown
from lmcore.tokenizer.tokenizer import Tokenizer
from tests.strategies import any_text, patterns, special_token_sets

TOKENIZER = Tokenizer(
    *train_bpe(["it's the cat\\hat \u00e9t\u00e9"] * 2, 270, ("<eos>",)), ("<eos>",)
)


@settings(deadline=None, max_examples=20)
@given(any_text, special_token_sets, patterns)
def test_what_was_written_reads_back_equal(text, special_tokens, pattern):
    """Through JSON text and back, the tokenizer is the same value."""
    trained = train_bpe([text + " the the the cat"], 256 + len(special_tokens) + 3, special_tokens)
    tokenizer = Tokenizer(*trained, special_tokens, pattern)
    assert from_json_value(json.loads(json.dumps(to_json_value(tokenizer)))) == tokenizer


@settings(deadline=None)
@given(st.one_of(st.binary(), any_text.map(str.encode)))
def test_every_bytes_value_has_one_writing(token):
    """A token as shown has UTF-8 bytes itself, and reads back to the token."""
    text = shown(token)
    assert unshown(text) == token
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (b" the", " the"),
        ("caf\u00e9 \u6f22".encode(), "caf\u00e9 \u6f22"),
        (b"\n\t\x00\x7f", r"\x0a\x09\x00\x7f"),
        (b"\xc3", r"\xc3"),
        ("\u00a0\u200b\u00ad".encode(), r"\xc2\xa0\xe2\x80\x8b\xc2\xad"),
        (b"\\x41", r"\\x41"),
        (b"\"'", "\"'"),
    ],
)
def test_tokens_look_as_documented(token, text):
    """What a reader can see is as it is; everything else is escaped byte by byte."""
    assert shown(token) == text


def test_the_value_says_what_a_reader_asks():
    """Format, version, pattern, Unicode version, special tokens, tokens by id, merges in order."""
    value = to_json_value(TOKENIZER)
    assert list(value) == [
        "format",
        "version",
        "pattern",
        "unicode",
        "special_tokens",
        "vocab",
        "merges",
    ]
    assert (value["format"], value["version"], value["pattern"]) == ("lmcore-tokenizer", 1, "gpt2")
    assert (value["special_tokens"], value["vocab"][0]) == (["<eos>"], "<eos>")
    assert value["merges"][:2] == [[r"\xc3", r"\xa9"], ["a", "t"]]
    assert "the" in value["vocab"]


def broken(**changes):
    return {**to_json_value(TOKENIZER), **changes}


def without(name):
    return {key: part for key, part in to_json_value(TOKENIZER).items() if key != name}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be a JSON object; this is a list"),
        ({}, "lacks the entry 'format'; it has none"),
        (without("merges"), "lacks the entry 'merges'; it has format, version"),
        (broken(format="other"), "format is 'other': this version reads 'lmcore-tokenizer'"),
        (broken(version=2), "version is 2: this version reads 1"),
        (broken(version=True), "version is True"),
        (broken(unicode="15.0.0"), "unicode is '15.0.0': this version reads '16.0.0'"),
        (broken(pattern="gpt3"), "pattern is 'gpt3': it must be one of"),
        (broken(pattern=["gpt2"]), "pattern is a list: it must be a string"),
        (broken(special_tokens="<eos>"), "special_tokens is a string: it must be a list"),
        (broken(special_tokens=["<pad>"]), "special token '<pad>' is not in the vocabulary"),
        (broken(vocab=[None]), r"vocab\[0\] is a null: it must be a string"),
        (broken(vocab=["a", r"\x4"]), r"vocab\[1\] is .* a backslash must be followed by"),
        (broken(vocab=["\ud800"]), r"vocab\[0\] is .* a lone surrogate"),
        (broken(merges=[["a", "b"], ["t"]]), r"merges\[1\] has 1 parts: it must have two"),
        (broken(merges=[["a", 1]]), r"merges\[0\]\[1\] is a number: it must be a string"),
        (broken(merges=[["t", "h"], ["t", "h"]]), r"merges\[1\] .* merged before"),
        (broken(merges=[["q", "q"]]), r"merges\[0\] names b'qq', which is not in the vocabulary"),
        (
            broken(vocab=[*to_json_value(TOKENIZER)["vocab"], "the"]),
            r"vocab\[\d+\] is b'the': it al",
        ),
    ],
)
def test_a_damaged_value_is_refused_by_its_entry(value, message):
    """The message names the entry that is wrong, and how."""
    with pytest.raises(InputError, match=message):
        from_json_value(value)
