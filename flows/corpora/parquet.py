"""Documents of a Parquet table: a row a document, the text in one of its columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.corpora.pieces import PIECE_CHARACTERS, Document, in_pieces
from lmcore.errors import InputError

ROWS_AT_A_TIME = 1024


def read_parquet(
    path: Path,
    text_field: str = "text",
    errors: str = "strict",
    *,
    piece_characters: int = PIECE_CHARACTERS,
) -> Iterator[Document]:
    """Stream the documents of a Parquet file, a thousand rows at a time.

    Rows whose text is null or empty are passed over; nothing is stripped.

    Args:
      path: the file.
      text_field: the column that holds the text: strings, or bytes of UTF-8.
      errors: "strict" raises on bytes that are not UTF-8, "replace" reads U+FFFD for them.
      piece_characters: longer documents come in pieces (see ``flows.corpora.pieces``).

    Returns:
      The documents, in the file's order, ids from 0.

    Raises:
      InputError: the file is damaged or no Parquet, the column is absent or holds no text, or a
        row is not UTF-8; the message names the row, counted from 0.

    Example:
      >>> pq.write_table(pa.table({"text": ["One.", None, "Two."]}), "two.parquet")
      >>> [document.text for document in read_parquet(Path("two.parquet"))]
      ['One.', 'Two.']
    """
    id = 0
    for row, data in enumerate(text_rows(path, text_field)):
        try:
            text = data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, row {row:,} is not UTF-8 at its byte {error.start} ({error.reason}); "
                "convert it, or read such bytes as U+FFFD with --corpus.errors replace"
            ) from error
        yield from (pieces := in_pieces(id, text, piece_characters))
        id += bool(pieces)


def text_rows(path: Path, text_field: str) -> Iterator[bytes]:
    """The bytes of the column, row by row; null counts as empty."""
    with arrow_errors(path), pq.ParquetFile(path) as file:
        check_column(file.schema_arrow, path, text_field)
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=[text_field]):
            column = batch.column(0)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            # As bytes, so that what is not UTF-8 is ours to judge.
            yield from (value or b"" for value in column.cast(pa.large_binary()).to_pylist())


def check_column(schema: pa.Schema, path: Path, text_field: str) -> None:
    """Refuse a table without the column, or with something else than text in it."""
    if schema.get_field_index(text_field) < 0:
        raise InputError(
            f"{path} has no single column {text_field!r}, but "
            f"{', '.join(map(repr, schema.names)) or 'none'}; change --corpus.text-field"
        )
    kind = schema.field(text_field).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    blobs = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    if not any(is_kind(kind) for is_kind in (*texts, *blobs)):
        raise InputError(
            f"{path}, column {text_field!r} holds {kind}: expected strings; "
            "change --corpus.text-field"
        )


@contextmanager
def arrow_errors(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged or foreign file into ``InputError``."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"cannot read {path} as Parquet ({error}); download it again, or change --corpus.format"
        ) from error
