"""JSON lines: the texts exactly, and every fault with its line."""

import gzip
import json

import pytest
from hypothesis import given, settings, strategies as st

from flows.corpora import jsonl
from flows.corpora.jsonl import read_jsonl
from flows.corpora.pieces import Document
from lmcore.errors import InputError


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(), max_size=5), packed=st.booleans(), plain=st.booleans())
def test_any_texts_come_back(tmp_path_factory, texts, packed, plain):
    """Any texts are read exactly, escaped or not, gzip or not; empty ones make no document."""
    path = tmp_path_factory.mktemp("jsonl") / "a"
    lines = [json.dumps({"n": 1, "text": text}, ensure_ascii=not plain) for text in texts]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    full = [text for text in texts if text]
    assert list(read_jsonl(path)) == [Document(n, 0, text) for n, text in enumerate(full)]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    """Blank lines, Windows line ends and a byte order mark do not matter."""
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"text": "One."}\r\n\n  \n{"text": "Two."}')
    assert [document.text for document in read_jsonl(tmp_path / "a")] == ["One.", "Two."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "is a list: expected an object with the field 'text'"),
        (b"{}", "has no field 'text', but none"),
        (b'{"body": "x", "n": 1}', "has no field 'text', but 'body', 'n'"),
        (b'{"text": 3}', "has a int in 'text': expected a string"),
        (b'{"text": null}', "has a NoneType in 'text': expected a string"),
        (b'{"text": "\xff"}', "is not UTF-8 at its byte 10"),
        (b'{"text": "a\\ud800"}', "has a lone surrogate at character 1"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, line, message):
    """Each fault is an InputError that names file, line, and what to change."""
    (tmp_path / "a").write_bytes(b'{"text": "One."}\n' + line)
    with pytest.raises(InputError, match=rf"a, line 2 {message}.*(--corpus|correct)"):
        list(read_jsonl(tmp_path / "a"))


def test_replacing_what_is_no_text(tmp_path):
    """Bad bytes and lone surrogates become U+FFFD; escaped pairs stay one character."""
    (tmp_path / "a").write_bytes(b'{"text": "\xff \\ud800 \\ud83d\\ude00"}')
    assert list(read_jsonl(tmp_path / "a", errors="replace")) == [Document(0, 0, "� � 😀")]


def test_a_line_too_long_to_hold_is_refused(tmp_path, monkeypatch):
    """A line beyond the bound is an InputError, and is never held whole."""
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100)
    (tmp_path / "a").write_bytes(b'{"text": "One."}\n' + b"x" * 101)
    with pytest.raises(InputError, match="line 2 is longer than 100 bytes"):
        list(read_jsonl(tmp_path / "a"))


def test_long_texts_come_in_pieces(tmp_path):
    """A long text comes in pieces that share its id."""
    (tmp_path / "a").write_text('{"text": "aa\\nbb"}\n{"text": "cc"}')
    assert list(read_jsonl(tmp_path / "a", piece_characters=4)) == [
        Document(0, 0, "aa\n"),
        Document(0, 1, "bb"),
        Document(1, 0, "cc"),
    ]
