"""What is learnt from, what settings are chosen on, and what is reported on; as token streams."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.vocabulary.texts import SEPARATOR, read
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer

FILES = {
    "tinystories": ("tinystories_train_2mb.txt", "tinystories_valid_100kb.txt"),
    "novels": ("novels_train_70mb.txt.gz", "novels_valid_1mb.txt"),
}
PIECE_CHARACTERS = 4_000  # of a document too long to stand for itself


class Documents(NamedTuple):
    """A corpus in three parts.

    Attributes:
      train: what is learnt from.
      tune: every second document of the validation text, on which settings are chosen.
      report: the others, on which nothing was chosen.
    """

    train: list[str]
    tune: list[str]
    report: list[str]


class Stream(NamedTuple):
    """A part as ``<eos> document <eos> … <eos>``.

    Attributes:
      tokens: uint16, 1-D.
      offsets: of the end-of-text token before each document, and of the last one.
      n_bytes: of each document's text.
    """

    tokens: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    n_bytes: NDArray[np.int64]


def documents(folder: Path, corpus: str) -> Documents:
    """Read a corpus of `FILES`.

    Raises:
      InputError: a file is missing.
    """
    train, valid = (read(folder, name) for name in FILES[corpus])
    scored = [piece for text in split(valid) for piece in pieces(text)]
    return Documents(split(train), scored[0::2], scored[1::2])


def split(text: str) -> list[str]:
    """The documents of a text, those that hold anything.

    Example:
      >>> split("one\\n<|endoftext|>\\n two <|endoftext|>")
      ['one', 'two']
    """
    return [part for found in text.split(SEPARATOR) if (part := found.strip())]


def pieces(document: str, characters: int = PIECE_CHARACTERS) -> list[str]:
    """The document, cut between paragraphs into pieces of so many characters or somewhat more.

    Example:
      >>> pieces("a\\n\\nb\\n\\nc", characters=3)
      ['a\\n\\nb', 'c']
    """
    found: list[list[str]] = [[]]
    for paragraph in document.split("\n\n"):
        if sum(map(len, found[-1])) + 2 * len(found[-1]) >= characters:
            found.append([])
        found[-1].append(paragraph)
    return ["\n\n".join(paragraphs) for paragraphs in found]


def write_streams(parts: Documents, vocab_size: int, path: Path) -> None:
    """Train a tokenizer on the training part, and write all three as tokens."""
    vocab, merges = train_bpe(parts.train, vocab_size, (SEPARATOR,))
    tokenizer = Tokenizer(vocab, merges, (SEPARATOR,))
    arrays = {}
    for name, texts in parts._asdict().items():
        for field, array in stream(tokenizer, texts)._asdict().items():
            arrays[f"{name}.{field}"] = array
    np.savez(path, **arrays)


def stream(tokenizer: Tokenizer, texts: Sequence[str]) -> Stream:
    """The texts as one stream of tokens.

    Example:
      >>> tokenizer = Tokenizer([b"<|endoftext|>", *(bytes([i]) for i in range(256))], {})
      >>> stream(tokenizer, ["ab", "c"]).tokens.tolist()
      [0, 98, 99, 0, 100, 0]
    """
    ids, ends = tokenizer.encode_batch(texts)
    end_of_text = np.array([0])
    between = [
        part for begin, end in itertools.pairwise(ends) for part in (end_of_text, ids[begin:end])
    ]
    return Stream(
        np.concatenate([*between, end_of_text]).astype(np.uint16),
        np.asarray(ends, dtype=np.int64) + np.arange(len(ends)),
        np.array([len(text.encode()) for text in texts]),
    )


def read_streams(path: Path) -> dict[str, Stream]:
    """What `write_streams` wrote."""
    with np.load(path) as arrays:
        return {
            name: Stream(*(arrays[f"{name}.{field}"] for field in Stream._fields))
            for name in Documents._fields
        }
