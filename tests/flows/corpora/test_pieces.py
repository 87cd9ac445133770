"""Pieces of long documents: they join exactly, and no tokenizer can tell where they were cut."""

from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st

from flows.corpora.pieces import Document, first_bytes, in_batches, in_pieces
from lmcore.tokenizer.pretokenize import Pattern, pre_tokens

# Under "none" a whole text is one pre-token, so any cut is seen there.
CUTTING = [pattern for pattern in get_args(Pattern) if pattern != "none"]


@settings(deadline=None, max_examples=100)
@given(text=st.text(st.sampled_from("ab é\n\r\t.中"), max_size=60), limit=st.integers(1, 20))
def test_pieces_join_to_the_document(text, limit):
    """Joined, the pieces are the document; none is empty or too long; parts count up."""
    pieces = in_pieces(7, text, limit)
    assert "".join(piece.text for piece in pieces) == text
    assert all(1 <= len(piece.text) <= limit for piece in pieces)
    assert [(piece.id, piece.part) for piece in pieces] == [(7, n) for n in range(len(pieces))]


@pytest.mark.parametrize("pattern", CUTTING)
@pytest.mark.parametrize("border", ["x\nb", "x b"], ids=["line", "word"])
@settings(deadline=None, max_examples=60)
@given(
    between=st.lists(st.text(st.sampled_from("aB1é'.,!?-/ \t\n中"), max_size=6), min_size=9),
    limit=st.integers(20, 40),
)
def test_pieces_pre_tokenize_as_the_whole(pattern, border, between, limit):
    """With a lone line feed or a word's space in reach, pieces give the pre-tokens of the whole."""
    text = "".join(words + border for words in between)
    pieces = in_pieces(0, text, limit)
    found = [token for piece in pieces for token in pre_tokens(piece.text, pattern)]
    assert found == pre_tokens(text, pattern)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aa\nbb\ncc", ["aa\nbb\n", "cc"]),
        ("aa\nbb\n\ncc", ["aa\n", "bb\n\ncc"]),
        ("aa\n\nb cc", ["aa\n\nb", " cc"]),
        ("aaa\n\nbbb", ["aaa\n\n", "bbb"]),
        ("aaa bbb ccc", ["aaa", " bbb", " ccc"]),
        ("aaaaaaaaa", ["aaaaaaa", "aa"]),
        (" aaaaaaaaa", [" aaaaaa", "aaa"]),
        ("\naaaaaaaaa", ["\n", "aaaaaaa", "aa"]),
    ],
    ids=[
        "lone line feed",
        "rather than an empty line",
        "word rather than an empty line",
        "line",
        "space",
        "none",
        "start",
        "first",
    ],
)
def test_where_a_document_is_cut(text, expected):
    """After a lone line feed, else before a word, else at a line or space, else anywhere."""
    assert [piece.text for piece in in_pieces(0, text, 7)] == expected


def test_first_bytes_cuts_at_a_document():
    """Documents are taken whole while they fit, in bytes of UTF-8; zero takes all."""
    documents = [Document(0, 0, "éé"), Document(1, 0, "abc"), Document(2, 0, "d")]
    for n_bytes, expected in {4: 1, 6: 1, 7: 2, 8: 3, 100: 3, 0: 3}.items():
        assert list(first_bytes(documents, n_bytes)) == documents[:expected]


def test_first_bytes_of_one_long_document():
    """When not even the first document fits, its first lines are taken, never a torn character."""
    for n_bytes, expected in {9: "one\ntwo\n", 3: "one", 1: "o"}.items():
        assert list(first_bytes([Document(0, 0, "one\ntwo\nthree")], n_bytes)) == [
            Document(0, 0, expected)
        ]
    assert list(first_bytes([Document(0, 0, "éa")], 1)) == [Document(0, 0, "é")]


def test_first_bytes_reads_no_further():
    """What lies beyond the limit is not asked for, beyond the document that does not fit."""

    def documents():
        yield Document(0, 0, "abc")
        yield Document(1, 0, "def")
        raise AssertionError("read too far")

    assert len(list(first_bytes(documents(), 4))) == 1


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 9), max_size=30), limit=st.integers(1, 20))
def test_batches_hold_all_in_order(lengths, limit):
    """Batches keep every document in order; each but the last is full, and only just."""
    documents = [Document(n, 0, "x" * length) for n, length in enumerate(lengths)]
    batches = list(in_batches(documents, limit))
    assert [document for batch in batches for document in batch] == documents
    for batch in batches[:-1]:
        sizes = [len(document.text) for document in batch]
        assert sum(sizes) >= limit > sum(sizes[:-1])
