"""Tokenized documents in columns, and the digest that says which tokens they are.

``TokenRows`` is what travels between the tokenizer, the Parquet shards and the memory map: many
documents at once, flat, so that no loop runs over documents. A row is a document, or a piece of a
very long one: pieces share the document's id and follow each other, parts counting up from 0.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np


class TokenRows(NamedTuple):
    """Tokenized documents, N rows and T tokens in all.

    Attributes:
      document_ids: int64 ``[N]``; equal for the pieces of one document.
      parts: int32 ``[N]``; 0 for the first piece of a document.
      ids: uint16 or uint32 ``[T]``, the rows' tokens one after another.
      offsets: int64 ``[N + 1]``, from 0; row i is ``ids[offsets[i]:offsets[i + 1]]``.
      byte_lengths: int64 ``[N]``, bytes of the raw text that the row's tokens stand for.
    """

    document_ids: np.ndarray
    parts: np.ndarray
    ids: np.ndarray
    offsets: np.ndarray
    byte_lengths: np.ndarray

    @property
    def n_rows(self) -> int:
        """N."""
        return len(self.document_ids)

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens of each row, int64 ``[N]``."""
        return np.diff(self.offsets)

    def between(self, start: int, stop: int) -> "TokenRows":
        """Rows ``start`` to ``stop``, without a copy of their tokens."""
        offsets = self.offsets[start : stop + 1]
        return TokenRows(
            self.document_ids[start:stop],
            self.parts[start:stop],
            self.ids[offsets[0] : offsets[-1]],
            offsets - offsets[0],
            self.byte_lengths[start:stop],
        )


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32, little-endian, that holds every id.

    Example:
      >>> token_dtype(65_536), token_dtype(65_537)
      (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def join_rows(batches: list[TokenRows]) -> TokenRows:
    """One after another; ``batches`` is not empty."""
    starts = np.cumsum([0, *(batch.offsets[-1] for batch in batches)])
    shifted = [batch.offsets[:-1] + start for batch, start in zip(batches, starts, strict=False)]
    return TokenRows(
        np.concatenate([batch.document_ids for batch in batches]),
        np.concatenate([batch.parts for batch in batches]),
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate([*shifted, starts[-1:]]).astype(np.int64),
        np.concatenate([batch.byte_lengths for batch in batches]),
    )


def in_groups(batches: Iterable[TokenRows], n_tokens: int, n_rows: int) -> Iterator[TokenRows]:
    """Cut batches of any size anew into groups that a bounded amount fills.

    A group ends with the row that brings it to ``n_tokens`` tokens or ``n_rows`` rows, so the
    groups depend on the rows alone, not on how they arrived.

    Args:
      batches: rows in order; empty batches are passed over.
      n_tokens: tokens that fill a group; a single longer row makes a group of its own.
      n_rows: rows that fill a group.

    Returns:
      The same rows in order; no group is empty.

    Example:
      >>> rows = TokenRows(*(np.arange(3),) * 3, np.arange(4), np.ones(3, np.int64))
      >>> [group.n_rows for group in in_groups([rows], n_tokens=2, n_rows=10)]
      [2, 1]
    """
    waiting: list[TokenRows] = []
    for batch in batches:
        while batch.n_rows:
            tokens = sum(int(rows.offsets[-1]) for rows in waiting)
            rows_left = n_rows - sum(rows.n_rows for rows in waiting)
            fills = 1 + int(np.searchsorted(batch.offsets[1:], n_tokens - tokens))
            taken = min(fills, rows_left, batch.n_rows)
            waiting.append(batch.between(0, taken))
            batch = batch.between(taken, batch.n_rows)
            if taken == min(fills, rows_left):
                yield join_rows(waiting)
                waiting = []
    if waiting:
        yield join_rows(waiting)


class TokenDigest:
    """SHA-256 of which tokens rows hold, whatever file, row group, shard or dtype holds them.

    The digest is of two digests: of the rows' (document id, part, tokens, bytes) as little-endian
    int64, and of all ids as little-endian uint32. So a new version of Parquet's encoder leaves it
    as it was, while any change of a token, of a border between documents or of a byte length
    changes it.

    Example:
      >>> digest = TokenDigest()
      >>> digest.hexdigest()[:8]
      '941bb650'
    """

    def __init__(self) -> None:
        self.rows = hashlib.sha256()
        self.ids = hashlib.sha256()

    def update(self, rows: TokenRows) -> None:
        """Take in the next rows."""
        columns = (rows.document_ids, rows.parts, rows.n_tokens, rows.byte_lengths)
        self.rows.update(np.stack(columns, axis=1).astype("<i8").tobytes())
        self.ids.update(rows.ids.astype("<u4").tobytes())

    def copy(self) -> "TokenDigest":
        """A digest of the same rows, which goes on by itself."""
        other = TokenDigest()
        other.rows, other.ids = self.rows.copy(), self.ids.copy()
        return other

    def hexdigest(self) -> str:
        """The digest of the rows so far, 64 hexadecimal digits."""
        return hashlib.sha256(b"tokens 1" + self.rows.digest() + self.ids.digest()).hexdigest()
