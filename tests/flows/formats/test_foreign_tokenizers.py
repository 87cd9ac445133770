"""Tokenizers in the files of other libraries."""

import json
from base64 import b64decode

import pytest

from flows.formats.foreign_tokenizers import (
    load_gpt2,
    save_huggingface,
    save_tiktoken,
    settings_path,
)
from lmcore.errors import InputError
from lmcore.tokenizer.interop import to_huggingface, to_tiktoken
from lmcore.tokenizer.tokenizer import Tokenizer

BYTES = [bytes([byte]) for byte in range(256)]
MERGES = {(b" ", b"t"): b" t", (b"\xc3", b"\xa9"): b"\xc3\xa9"}
TOKENIZER = Tokenizer([b"<eos>", *BYTES, *MERGES.values()], MERGES, ("<eos>",))


def test_a_tokenizer_json_holds_the_value(tmp_path):
    """The file reads back as the value that it was written from."""
    save_huggingface(tmp_path / "a", TOKENIZER)
    assert json.loads((tmp_path / "a").read_text("utf-8")) == to_huggingface(TOKENIZER)


def test_a_rank_file_and_its_settings_are_the_arguments_of_an_encoding(tmp_path):
    """A line a token, in the order of ids, base 64 and id; the other file holds all the rest."""
    path = tmp_path / "ours.tiktoken"
    save_tiktoken(path, TOKENIZER, "ours")
    lines = [line.split(" ") for line in path.read_text("ascii").splitlines()]
    ranks = {b64decode(token): int(rank) for token, rank in lines}
    assert list(ranks.values()) == sorted(ranks.values())
    settings = json.loads(settings_path(path).read_text("utf-8"))
    assert {**settings, "mergeable_ranks": ranks} == to_tiktoken(TOKENIZER, "ours")


def test_what_cannot_be_exported_leaves_no_file(tmp_path):
    """A tokenizer that tiktoken would read otherwise is refused before anything is written."""
    with pytest.raises(InputError, match="begins with the special token"):
        save_tiktoken(tmp_path / "a", Tokenizer([b"<e", b"<e>", *BYTES], {}, ("<e", "<e>")))
    assert list(tmp_path.iterdir()) == []


def write_gpt2(folder, tokenizer):
    """encoder.json and vocab.bpe of a tokenizer."""
    model = to_huggingface(tokenizer)["model"]
    (folder / "encoder.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *model["merges"], ""]
    (folder / "vocab.bpe").write_text("\n".join(lines), encoding="utf-8")
    return folder / "encoder.json", folder / "vocab.bpe"


def test_gpt_2_s_files_are_read(tmp_path):
    """Both files together are the tokenizer."""
    assert load_gpt2(*write_gpt2(tmp_path, TOKENIZER), ("<eos>",)) == TOKENIZER


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Absent, not UTF-8, or not of the format: the message names the file."""
    encoder, vocab = write_gpt2(tmp_path, TOKENIZER)
    with pytest.raises(InputError, match=r"cannot read .*absent \(No such file"):
        load_gpt2(tmp_path / "absent", vocab)
    with pytest.raises(InputError, match=r"encoder\.json and .*vocab\.bpe are no tokenizer"):
        load_gpt2(encoder, vocab)  # without <|endoftext|>
    vocab.write_bytes(b"#version: 0.2\n\xff")
    with pytest.raises(InputError, match=r"vocab\.bpe is not UTF-8 at byte 14"):
        load_gpt2(encoder, vocab, ("<eos>",))
