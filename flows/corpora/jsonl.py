"""Documents of JSON lines, plain or gzip: one object a line, the text in one of its fields."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flows.corpora.pieces import PIECE_CHARACTERS, Document, in_pieces
from flows.corpora.text import open_text
from lmcore.errors import InputError

MAX_LINE_BYTES = 256 << 20


def read_jsonl(
    path: Path,
    text_field: str = "text",
    errors: str = "strict",
    *,
    piece_characters: int = PIECE_CHARACTERS,
) -> Iterator[Document]:
    """Stream the documents of a JSON-lines file, a line at a time.

    Blank lines and documents whose text is empty are passed over; nothing is stripped.

    Args:
      path: a plain or gzip file.
      text_field: the field of each object that holds the text.
      errors: "strict" raises on bytes that are not UTF-8 and on lone surrogates, "replace" reads
        U+FFFD for them.
      piece_characters: longer documents come in pieces (see ``flows.corpora.pieces``).

    Returns:
      The documents, in the file's order, ids from 0.

    Raises:
      InputError: damage, no JSON object, or no text in the field; the message names the line.

    Example:
      >>> _ = Path("one.jsonl").write_text('{"text": "One."}')
      >>> list(read_jsonl(Path("one.jsonl")))
      [Document(id=0, part=0, text='One.')]
    """
    id = 0
    with open_text(path) as file:
        for number, line in enumerate(lines(file, path), start=1):
            place = f"{path}, line {number:,}"
            text = text_of(line, text_field, errors, place) if line.strip() else ""
            yield from (pieces := in_pieces(id, text, piece_characters))
            id += bool(pieces)


def lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The file's lines; one that could not be held in memory is an error."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InputError(
                f"{path}, line {number:,} is longer than {MAX_LINE_BYTES:,} bytes; split it, or "
                "if the file is no JSON lines, change --corpus.format"
            )
        yield line


def text_of(line: bytes, text_field: str, errors: str, place: str) -> str:
    """The text of one line."""
    try:
        record = json.loads(line.decode("utf-8-sig", errors))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 at its byte {error.start} ({error.reason}); convert the file, "
            "or read such bytes as U+FFFD with --corpus.errors replace"
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            f"{place} is no JSON ({error}); correct it, or change --corpus.format"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get(text_field), str):
        raise InputError(f"{place} {missing(record, text_field)}; change --corpus.text-field")
    return without_surrogates(record[text_field], errors, place)


def missing(record: object, text_field: str) -> str:
    """What stands where the text should be."""
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}: expected an object with the field {text_field!r}"
    if text_field not in record:
        return f"has no field {text_field!r}, but {', '.join(map(repr, record)) or 'none'}"
    return f"has a {type(record[text_field]).__name__} in {text_field!r}: expected a string"


def without_surrogates(text: str, errors: str, place: str) -> str:
    """The text as given, unless a lone surrogate, which no UTF-8 can hold, stands in it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise InputError(
                f"{place} has a lone surrogate at character {error.start}, which is no text; "
                "correct it, or read it as U+FFFD with --corpus.errors replace"
            ) from error
        # Two surrogates that make a pair stay a pair.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
