"""Plain and gzip text: the documents depend on the file alone, and damage is named."""

import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from flows.corpora.pieces import Document, in_pieces
from flows.corpora.text import read_text, split_documents, write_text
from lmcore.errors import InputError

SEPARATOR = "<|endoftext|>"
DATA = Path(__file__).parents[4] / "shared" / "data"


def texts_of(path, **options):
    """The documents' texts."""
    return [document.text for document in read_text(path, SEPARATOR, **options)]


def slow_documents(text, separator):
    """The documents by definition, the whole text in memory."""
    bodies = text.split(separator) if separator else [text]
    for n, body in enumerate(bodies):
        if n > 0:
            body = body[2:] if body.startswith("\r\n") else body[body.startswith("\n") :]
        if n < len(bodies) - 1:
            for end in ("\r\n", "\n"):
                if body.endswith(end):
                    body = body[: -len(end)]
                    break
        if body:
            yield body


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(st.sampled_from("ab\n\r|é"), max_size=60),
    separator=st.sampled_from(["|", "||", "|b|", "a\n", ""]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    limit=st.integers(1, 12),
)
@example("aaaa\r\n||b", "||", [7, 1], 4)  # ends, for now, in a line break and half a separator
@example("|\r\naaaaaa", "|", [2, 1, 9], 3)
def test_chunks_never_change_the_documents(text, separator, sizes, limit):
    """However the characters arrive, the documents and their pieces are those of the definition."""
    chunks, start, turn = [], 0, 0
    while start < len(text):
        chunks.append(text[start : start + sizes[turn % len(sizes)]])
        start, turn = start + len(chunks[-1]), turn + 1
    expected = [
        piece
        for id, body in enumerate(slow_documents(text, separator))
        for piece in in_pieces(id, body, limit)
    ]
    assert list(split_documents(chunks, separator, limit)) == expected


@settings(deadline=None, max_examples=60)
@given(
    text=st.text(max_size=30),
    chunk=st.integers(1, 7),
    packed=st.booleans(),
    bom=st.booleans(),
)
def test_any_text_is_read_exactly(tmp_path_factory, text, chunk, packed, bom):
    """Any characters come back, gzip or not, with a byte order mark or not, in any chunks."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    data = b"\xef\xbb\xbf" * bom + text.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    expected = text if bom else text.removeprefix("\ufeff")
    assert "".join(texts_of(path, chunk_bytes=chunk)) == expected


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(min_size=1).filter(lambda t: SEPARATOR not in t), max_size=5))
@example(["\r"])
@example(["\ufeff", "\ufeff"])
@example(["\n\r\n", "\r\r\n", "<|endoftext|"])
def test_what_is_written_is_read(tmp_path_factory, texts):
    """Documents that were written come back, whatever line breaks they begin or end with."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    assert write_text(path, texts, SEPARATOR) == len(texts)
    assert texts_of(path) == texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n<|endoftext|>\nTwo.\n<|endoftext|>\n", ["One.", "Two."]),
        ("One.<|endoftext|>Two.", ["One.", "Two."]),
        ("One.\r\n<|endoftext|>\r\nTwo.", ["One.", "Two."]),
        ("One. \n\n<|endoftext|>\n\n Two.\n", ["One. \n", "\n Two.\n"]),
        ("<|endoftext|>\n<|endoftext|>One.", ["One."]),
        ("\n<|endoftext|>\n\n<|endoftext|>\n", []),
        ("", []),
    ],
    ids=[
        "own line",
        "no line",
        "crlf",
        "one break only",
        "empty documents",
        "only breaks",
        "empty",
    ],
)
def test_what_belongs_to_the_separator(tmp_path, text, expected):
    """One line break on either side belongs to the separator; nothing else is stripped."""
    (tmp_path / "a.txt").write_text(text, newline="")
    assert texts_of(tmp_path / "a.txt") == expected


def test_gzip_is_known_by_its_bytes(tmp_path):
    """The first bytes decide, not the name; members one after another are one text."""
    (tmp_path / "a.txt").write_bytes(gzip.compress(b"One.<|end") + gzip.compress(b"oftext|>Two."))
    (tmp_path / "b.gz").write_bytes(b"One.<|endoftext|>Two.")
    assert texts_of(tmp_path / "a.txt") == texts_of(tmp_path / "b.gz") == ["One.", "Two."]


PACKED = gzip.compress(b"One. " * 5000 + bytes(range(100)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PACKED[:-1], "ends too early"),
        (PACKED[:30], "ends too early"),
        (PACKED[:12] + b"\xff\xff\xff" + PACKED[15:], "damaged gzip"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged gzip"),
        (PACKED + b"more", "damaged gzip"),
    ],
    ids=["last byte lost", "end lost", "changed bytes", "wrong checksum", "something after it"],
)
def test_damaged_gzip_is_named(tmp_path, data, message):
    """Gzip that is cut short or changed is an InputError that names the file."""
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.gz is .*{message}.*download it again"):
        texts_of(tmp_path / "a.gz")


@settings(deadline=None, max_examples=60)
@given(
    before=st.text(max_size=12),
    bad=st.sampled_from([b"\xff", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5"]),
    chunk=st.integers(1, 5),
    packed=st.booleans(),
)
def test_bytes_that_are_not_utf8_are_located(tmp_path_factory, before, bad, chunk, packed):
    """The byte named is the one that Python finds in the whole, wherever chunks are cut."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    data = before.encode() + bad + b"rest"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(UnicodeDecodeError) as expected:
        data.decode()
    with pytest.raises(InputError) as found:
        texts_of(path, chunk_bytes=chunk)
    assert f"not UTF-8 at byte {expected.value.start:,} " in str(found.value)
    assert "--corpus.errors replace" in str(found.value)
    assert "".join(texts_of(path, errors="replace", chunk_bytes=chunk)) == data.decode(
        "utf-8", "replace"
    ).removeprefix("\ufeff")


def test_a_character_cut_off_at_the_end_is_not_utf8(tmp_path):
    """A file that ends within a character is an InputError at that character's first byte."""
    (tmp_path / "a.txt").write_bytes("aé".encode()[:-1])
    with pytest.raises(InputError, match="at byte 1 "):
        texts_of(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"PAR1rest", "--corpus.format parquet"),
        (b"\x28\xb5\x2f\xfdrest", "zstd"),
        (b"BZhrest", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"PK\x03\x04rest", "zip"),
        ("text".encode("utf-16"), "convert it to UTF-8"),
    ],
)
def test_other_files_are_recognised(tmp_path, data, advice):
    """A file of another kind is named for what it is, rather than as broken UTF-8."""
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match=advice):
        texts_of(tmp_path / "a")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    """What cannot be opened is an InputError that names it."""
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=f"cannot read {path}"):
            texts_of(path)


@pytest.mark.parametrize("separator", [SEPARATOR, ""])
def test_memory_is_bounded(tmp_path, separator):
    """A document of 12 MB without a separator is read in memory of a few pieces."""
    (tmp_path / "a.txt").write_bytes(b"some words in a line\n" * 600_000)
    tracemalloc.start()
    length = 0
    for document in read_text(
        tmp_path / "a.txt", separator, chunk_bytes=1 << 16, piece_characters=1 << 17
    ):
        length += len(document.text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == 12_600_000
    assert peak < 3_000_000


def test_long_documents_keep_their_ids(tmp_path):
    """The pieces of a long document share its id; the next document has the next."""
    (tmp_path / "a.txt").write_text("aa\nbb\ncc|dd")
    assert list(read_text(tmp_path / "a.txt", "|", piece_characters=4)) == [
        Document(0, 0, "aa\n"),
        Document(0, 1, "bb\n"),
        Document(0, 2, "cc"),
        Document(1, 0, "dd"),
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of sample texts is absent")
def test_real_stories_are_read_exactly():
    """The TinyStories excerpt has its 2,200 stories, and every byte is accounted for."""
    path = DATA / "tinystories_train_2mb.txt"
    texts = texts_of(path, chunk_bytes=9973)
    assert len(texts) == 2200
    rebuilt = "".join(f"{text}\n{SEPARATOR}\n" for text in texts)
    assert rebuilt.encode() == path.read_bytes()
