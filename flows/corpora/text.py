"""Documents of plain or gzip text, streamed: bytes, then characters, then separators.

A document is exactly what stands between two separators, less the line break on either side of
the separator: in the usual layout the separator has a line of its own, and that line's breaks
belong to it. Nothing else is stripped, so bits per byte are counted over the text's own bytes.
The file's last line break, with no separator after it, belongs to the last document. A separator
with nothing before it makes no document. A byte order mark at the start of the file is dropped.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from flows.corpora.pieces import PIECE_CHARACTERS, Document, cut, in_pieces
from lmcore.errors import InputError

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
# What other files begin with, and what to say, rather than "not UTF-8 at byte 1".
OTHER_MAGICS = {
    b"PAR1": "Parquet: give --corpus.format parquet",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it, or pack it with gzip",
    b"\xfd7zXZ\x00": "xz: unpack it, or pack it with gzip",
    b"BZh": "bzip2: unpack it, or pack it with gzip",
    b"PK\x03\x04": "zip: unpack it, or pack it with gzip",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text: convert it to UTF-8",
}


def read_text(
    path: Path,
    separator: str,
    errors: str = "strict",
    *,
    chunk_bytes: int = CHUNK_BYTES,
    piece_characters: int = PIECE_CHARACTERS,
) -> Iterator[Document]:
    """Stream the documents of a text file, in memory bounded by a piece and a chunk.

    Args:
      path: a plain or gzip file; which, its first bytes say, whatever its name.
      separator: what stands between two documents; empty makes the file one document.
      errors: "strict" raises on bytes that are not UTF-8, "replace" reads U+FFFD for them.
      chunk_bytes: how much is read at a time; it never changes the documents.
      piece_characters: longer documents come in pieces (see ``flows.corpora.pieces``).

    Returns:
      The documents, in the file's order, ids from 0; none is empty.

    Raises:
      InputError: the file cannot be opened, is damaged, or is not UTF-8; the message names the
        byte, counted in the plain text.

    Example:
      >>> _ = Path("two.txt").write_text("One.\\n<|endoftext|>\\nTwo.\\n")
      >>> list(read_text(Path("two.txt"), "<|endoftext|>"))
      [Document(id=0, part=0, text='One.'), Document(id=1, part=0, text='Two.\\n')]
    """
    with open_text(path) as file:
        texts = decoded(iter(lambda: file.read(chunk_bytes), b""), path, errors)
        yield from split_documents(texts, separator, piece_characters)


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file as the plain bytes; damage becomes ``InputError``."""
    try:
        with path.open("rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            for known, advice in OTHER_MAGICS.items():
                if magic.startswith(known):
                    raise InputError(f"{path} is no plain or gzip text; it looks like {advice}")
            if magic.startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as plain:
                    yield cast(BinaryIO, plain)
            else:
                yield raw
    except EOFError as error:
        raise InputError(
            f"{path} is gzip that ends too early; download it again, or pack it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path} is damaged gzip ({error}); download it again, or pack it again"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); correct its path") from error


def decoded(chunks: Iterable[bytes], path: Path, errors: str) -> Iterator[str]:
    """UTF-8 to characters, whatever the chunks cut in two; a byte order mark is dropped."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    read = 0  # bytes fed to the decoder so far
    first = True
    for chunk in chain(chunks, [b""]):  # the empty chunk tells the decoder to finish
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise not_utf8(path, read - held + error.start, error) from error
        read += len(chunk)
        if text:
            yield text.removeprefix("\ufeff") if first else text
            first = False


def not_utf8(path: Path, offset: int, error: UnicodeDecodeError) -> InputError:
    """The error for bytes that are not UTF-8, with the place in the plain text."""
    found = " ".join(f"{byte:02x}" for byte in error.object[error.start : error.end])
    return InputError(
        f"{path} is not UTF-8 at byte {offset:,} ({found}: {error.reason}); convert it to UTF-8, "
        "or read such bytes as U+FFFD with --corpus.errors replace"
    )


def split_documents(
    texts: Iterable[str], separator: str, piece_characters: int = PIECE_CHARACTERS
) -> Iterator[Document]:
    """Split characters that arrive in any chunks into documents, long ones in pieces.

    Args:
      texts: the characters, in chunks of any size.
      separator: what stands between documents, or "".
      piece_characters: the most characters of a piece.

    Returns:
      The documents that :func:`read_text` describes; they depend on the joined text alone.

    Example:
      >>> list(split_documents(["a", "b|", "c"], "|"))
      [Document(id=0, part=0, text='ab'), Document(id=1, part=0, text='c')]
    """
    # The end of an unfinished text may yet turn out to be a line break and most of a separator.
    undecided = len("\r\n") + max(len(separator) - 1, 0)
    id, part, rest, follows_separator = 0, 0, "", False
    for text in texts:
        *closed, rest = (rest + text).split(separator) if separator else [rest + text]
        for body in closed:
            body = without_end_break(without_start_break(body) if follows_separator else body)
            yield from (pieces := in_pieces(id, body, piece_characters, part))
            id, part, follows_separator = id + bool(pieces), 0, True
        if len(rest) > piece_characters + undecided + len("\r\n"):
            rest = without_start_break(rest) if follows_separator else rest
            follows_separator = False
            while len(rest) > piece_characters + undecided:
                end = cut(rest[: piece_characters + 1])
                yield Document(id, part, rest[:end])
                part, rest = part + 1, rest[end:]
    rest = without_start_break(rest) if follows_separator else rest
    yield from in_pieces(id, rest, piece_characters, part)


def without_start_break(text: str) -> str:
    """The text less one line break at its start."""
    return text.removeprefix("\r\n") if text.startswith("\r\n") else text.removeprefix("\n")


def without_end_break(text: str) -> str:
    """The text less one line break at its end."""
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def write_text(path: Path, texts: Iterable[str], separator: str) -> int:
    """Write documents so that :func:`read_text` gives them back: the separator on its own line.

    Args:
      path: the file to write.
      texts: the documents; none is empty, none holds the separator.
      separator: what to put after each document.

    Returns:
      How many documents were written.

    Example:
      >>> write_text(Path("two.txt"), ["One.", "Two."], "<|endoftext|>")
      2
    """
    n_written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for text in texts:
            # What the reader would take for a byte order mark, or half a line break, is doubled.
            mark = "\ufeff" if n_written == 0 and text.startswith("\ufeff") else ""
            line_break = "\r\n" if text.endswith("\r") else "\n"
            file.write(f"{mark}{text}{line_break}{separator}\n")
            n_written += 1
    return n_written
