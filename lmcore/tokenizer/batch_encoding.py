"""Encode many texts into one array, by the gpt2 pattern: the twin of `Tokenizer.encode`.

The texts are cut on arrays (`fast_pretokenize`), some hundred kilobytes of them side by side; their
words are numbered by a table (`word_table`); each word is encoded once, when it is first seen; and
the ids are laid out by a few operations on arrays. No Python object is made for a pre-token or an
id.
"""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.tokenizer.engine import Engine, compiled
from lmcore.tokenizer.fast_encoding import MergeTable, WordMerger
from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.segments import Segment, segments
from lmcore.tokenizer.word_table import WordTable

BATCH_CHARACTERS = 1 << 18
REMEMBERED_WORDS = 1 << 19
"""About 40 MB; when there are more, the memory starts afresh (natural text repeats words soon)."""

Placed = tuple[int, Segment]  # the number of the text, and a piece of it
Ids = NDArray[Any]  # uint16 or uint32


class BatchEncoder:
    """The words that encoding has seen, and the ids of each.

    table: the words.
    ids, n_used: the ids of all words, one word after the other, and how many there are.
    where: where the ids of each word begin in ``ids``, and how many it has; ``[n_words, 2]``, so
      that both are fetched at once.
    """

    def __init__(self, merges: MergeTable, dtype: type = np.uint32) -> None:
        self.dtype = dtype
        self.merger = WordMerger(merges)
        self.n_read = 0
        self.forget()

    def forget(self) -> None:
        """Start afresh."""
        self.table = WordTable()
        self.ids, self.n_used = np.zeros(0, self.dtype), 0
        self.where = np.zeros((0, 2), np.int64)

    def encode(
        self, texts: Iterable[str], special_ids: dict[str, int], engine: Engine = "auto"
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of ``texts``, each encoded on its own.

        Args:
          texts: strings without surrogates.
          special_ids: the special tokens to find, and their ids.
          engine: what does the work; see `engine.compiled`.

        Returns:
          ``(ids, offsets)``: the ids of text i are ``ids[offsets[i] : offsets[i + 1]]``; of the
          encoder's dtype, and int64 ``[n + 1]``.
        """
        ids: list[Ids] = [np.zeros(0, self.dtype)]
        n_ids: list[int] = []  # by text
        for batch in _batches(texts, tuple(special_ids), n_ids):
            kernels = compiled(engine, self.n_read)
            pieces = [piece for _, piece in batch]
            self.n_read += sum(len(piece.text) for piece in pieces)
            found, counts = self._encode_segments(pieces, special_ids, kernels)
            ids.append(found)
            for (text, _), count in zip(batch, counts.tolist(), strict=True):
                n_ids[text] += count
        return np.concatenate(ids), np.cumsum([0, *n_ids], dtype=np.int64)

    def _encode_segments(
        self, pieces: list[Segment], special_ids: dict[str, int], kernels: ModuleType | None
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of the segments in a row, and how many each has."""
        plain = [segment.text for segment in pieces if not segment.is_special]
        plain_ids, plain_counts = self._encode_plain(plain, kernels)
        if len(plain) == len(pieces):
            return plain_ids, plain_counts
        is_special = np.array([segment.is_special for segment in pieces])
        counts = np.ones(len(pieces), np.int64)
        counts[~is_special] = plain_counts
        ids = np.empty(int(counts.sum()), self.dtype)
        special = np.repeat(is_special, counts)
        ids[special] = [special_ids[segment.text] for segment in pieces if segment.is_special]
        ids[~special] = plain_ids
        return ids, counts

    def _encode_plain(
        self, texts: list[str], kernels: ModuleType | None
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of texts without special tokens in a row, and how many each has."""
        if self.table.n > REMEMBERED_WORDS:
            self.forget()
        if kernels:
            return self._encode_compiled(texts, kernels)
        cut = cut_gpt2(texts)
        word = self.table.find(cut)
        self._learn()
        first, lengths = self.where[word].T
        ends = np.cumsum(lengths)
        ids = np.empty(int(ends[-1]) if len(ends) else 0, self.dtype)
        place = ends - lengths
        ids[place] = self.ids[first]
        # Three in four words are one token; the others are fewer with every further token.
        more = np.flatnonzero(lengths > 1)
        place, first, lengths = place[more], first[more], lengths[more]
        step = 1
        while len(place):
            ids[place + step] = self.ids[first + step]
            step += 1
            more = lengths > step
            place, first, lengths = place[more], first[more], lengths[more]
        return ids, np.diff(np.concatenate(([0], ends))[cut.first])

    def _encode_compiled(
        self, texts: list[str], kernels: ModuleType
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The same, compiled."""
        word, first = self.table.find_compiled(texts, kernels)
        self._learn(kernels)
        # No token is shorter than a byte, no character longer than four.
        ids = np.empty(4 * sum(map(len, texts)), self.dtype)
        ends = np.zeros(len(first), np.int64)
        n = kernels.lay_out(word, self.where, self.ids, ids, first, ends)
        return ids[:n].copy(), np.diff(ends)

    def _learn(self, kernels: ModuleType | None = None) -> None:
        """Encode the words that the table has got since the last time."""
        n_known = len(self.where)
        if self.table.n == n_known:
            return
        try:
            found, lengths = self.merger.merge(*self.table.words(n_known), kernels)
        except InputError:
            self.forget()  # the table holds a word that has no ids
            raise
        ends = np.cumsum(lengths)
        if self.n_used + len(found) > len(self.ids):
            larger = np.zeros(2 * (self.n_used + len(found)), self.dtype)
            larger[: self.n_used] = self.ids[: self.n_used]
            self.ids = larger
        self.ids[self.n_used : self.n_used + len(found)] = found
        where = np.stack((self.n_used + ends - lengths, lengths), axis=1)
        self.where = np.concatenate((self.where, where))
        self.n_used += len(found)


def _batches(
    texts: Iterable[str], special_tokens: tuple[str, ...], n_ids: list[int]
) -> Iterator[list[Placed]]:
    """Pieces of the texts, gathered; ``n_ids`` gets a zero for each text."""
    batch: list[Placed] = []
    n_waiting = 0
    for place, text in enumerate(texts):
        n_ids.append(0)
        for segment in segments([text], "gpt2", special_tokens, BATCH_CHARACTERS):
            batch.append((place, segment))
            n_waiting += len(segment.text)
            if n_waiting >= BATCH_CHARACTERS:
                yield batch
                batch, n_waiting = [], 0
    if batch:
        yield batch
