"""The one door to a corpus's text: picks the reader by the config, checks that there is text."""

from collections.abc import Iterator
from pathlib import Path

from flows.corpora.config import ReadingConfig
from flows.corpora.jsonl import read_jsonl
from flows.corpora.pieces import Document, first_bytes
from flows.corpora.text import read_text
from lmcore.errors import InputError


def read_documents(path: Path, config: ReadingConfig, *, max_bytes: int = 0) -> Iterator[Document]:
    """Stream the documents of a corpus file, in bounded memory.

    Args:
      path: the file, as downloaded.
      config: says the format, and how to read it.
      max_bytes: take only so many bytes of text (for training, ``config.max_train_bytes``), cut
        at a document's border; 0 takes all.

    Returns:
      The documents in order; the bytes of a document are ``len(text.encode())``. Reading the
      same file twice gives the same documents.

    Raises:
      InputError: the file cannot be read, is damaged, is not UTF-8, or holds no text.

    Example:
      >>> _ = Path("two.txt").write_text("One.<|endoftext|>Two.")
      >>> [document.text for document in read_documents(Path("two.txt"), ReadingConfig())]
      ['One.', 'Two.']
    """
    empty = True
    for document in first_bytes(read_format(path, config), max_bytes):
        empty = False
        yield document
    if empty:
        raise InputError(
            f"{path} holds no text: a corpus needs at least one document with a character in it; "
            "check the file, --corpus.format and --corpus.separator"
        )


def read_format(path: Path, config: ReadingConfig) -> Iterator[Document]:
    """The reader of the format, applied."""
    if config.format == "text":
        return read_text(path, config.separator, config.errors)
    if config.format == "jsonl":
        return read_jsonl(path, config.text_field, config.errors)
    # Here, so that a run on plain text does not pay for importing pyarrow's Parquet.
    from flows.corpora.parquet import read_parquet

    return read_parquet(path, config.text_field, config.errors)
