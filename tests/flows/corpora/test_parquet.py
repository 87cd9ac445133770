"""Parquet tables: the texts exactly, and every fault with its place."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.corpora.parquet import read_parquet
from flows.corpora.pieces import Document
from lmcore.errors import InputError

TEXTS = ["One.", None, "", "Two\n中."]


def table(path, values, kind=None, name="text"):
    """A table of one column, in small row groups."""
    pq.write_table(
        pa.table({"n": range(len(values)), name: pa.array(values, kind)}), path, row_group_size=3
    )
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.string_view(),
    ],
    ids=str,
)
def test_every_kind_of_string_is_read(tmp_path, kind):
    """Strings of any arrow type are read exactly; null and empty rows make no document."""
    values = [text.encode() if text and "binary" in str(kind) else text for text in TEXTS]
    path = table(tmp_path / "a", pa.array(values, pa.binary() if "binary" in str(kind) else None))
    pq.write_table(pa.table({"text": pq.read_table(path)["text"].cast(kind)}), path)
    assert list(read_parquet(path)) == [Document(0, 0, "One."), Document(1, 0, "Two\n中.")]


def test_rows_come_in_order_through_all_row_groups(tmp_path):
    """Many rows in many row groups come in the table's order."""
    texts = [f"text {n}" for n in range(3000)]
    assert [d.text for d in read_parquet(table(tmp_path / "a", texts))] == texts


def test_a_column_that_is_not_there(tmp_path):
    """An absent column is an InputError that lists those there are."""
    table(tmp_path / "a", ["One."], name="body")
    with pytest.raises(InputError, match=r"no single column 'text', but 'n', 'body'.*text-field"):
        list(read_parquet(tmp_path / "a"))


def test_a_column_that_is_no_text(tmp_path):
    """A column of numbers is an InputError that says what it holds."""
    table(tmp_path / "a", [1.5])
    with pytest.raises(InputError, match="holds double: expected strings"):
        list(read_parquet(tmp_path / "a"))


def test_a_row_that_is_not_utf8(tmp_path):
    """Bytes that are not UTF-8 are an InputError with the row, or U+FFFD by option."""
    path = table(tmp_path / "a", [b"One.", b"Tw\xff"])
    with pytest.raises(InputError, match="row 1 is not UTF-8 at its byte 2"):
        list(read_parquet(path))
    assert [d.text for d in read_parquet(path, errors="replace")] == ["One.", "Tw�"]


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_damaged_table(tmp_path, cut):
    """A file that is cut short is an InputError that names it."""
    path = table(tmp_path / "a", TEXTS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"cannot read .*a as Parquet"):
        list(read_parquet(path))


def test_long_texts_come_in_pieces(tmp_path):
    """A long text comes in pieces that share its id."""
    path = table(tmp_path / "a", ["aa\nbb", "cc"])
    pieces = [Document(0, 0, "aa\n"), Document(0, 1, "bb"), Document(1, 0, "cc")]
    assert list(read_parquet(path, piece_characters=4)) == pieces
