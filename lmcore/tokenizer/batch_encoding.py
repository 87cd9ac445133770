"""Encode many texts into one array, by the gpt2 pattern: the twin of `Tokenizer.encode`.

The texts are cut on arrays (`fast_pretokenize`), some hundred kilobytes of them side by side; their
words are numbered by a table (`word_table`); each word is encoded once, when it is first seen; and
the ids are laid out by a few operations on arrays. No Python object is made for a pre-token or an
id.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.tokenizer.fast_encoding import MergeTable, WordMerger
from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.segments import Segment, segments
from lmcore.tokenizer.word_table import WordTable

BATCH_CHARACTERS = 1 << 18
REMEMBERED_WORDS = 1 << 19
"""About 40 MB; when there are more, the memory starts afresh (natural text repeats words soon)."""

Placed = tuple[int, Segment]  # the number of the text, and a piece of it
Ids = NDArray[np.uint32]


class BatchEncoder:
    """The words that encoding has seen, and the ids of each.

    table: the words.
    ids, n_used: the ids of all words, one word after the other, and how many there are.
    first, lengths: where the ids of each word begin in ``ids``, and how many it has.
    """

    def __init__(self, merges: MergeTable) -> None:
        self.merger = WordMerger(merges)
        self.forget()

    def forget(self) -> None:
        """Start afresh."""
        self.table = WordTable()
        self.ids, self.n_used = np.zeros(0, np.uint32), 0
        self.first, self.lengths = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def encode(
        self, texts: Iterable[str], special_ids: dict[str, int]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of ``texts``, each encoded on its own.

        Args:
          texts: strings without surrogates.
          special_ids: the special tokens to find, and their ids.

        Returns:
          ``(ids, offsets)``: the ids of text i are ``ids[offsets[i] : offsets[i + 1]]``; uint32,
          and int64 ``[n + 1]``.
        """
        ids: list[Ids] = [np.zeros(0, np.uint32)]
        n_ids: list[int] = []  # by text
        for batch in _batches(texts, tuple(special_ids), n_ids):
            found, counts = self._encode_segments([piece for _, piece in batch], special_ids)
            ids.append(found)
            for (text, _), count in zip(batch, counts.tolist(), strict=True):
                n_ids[text] += count
        return np.concatenate(ids), np.cumsum([0, *n_ids], dtype=np.int64)

    def _encode_segments(
        self, pieces: list[Segment], special_ids: dict[str, int]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of the segments in a row, and how many each has."""
        plain = [segment.text for segment in pieces if not segment.is_special]
        plain_ids, plain_counts = self._encode_plain(plain)
        if len(plain) == len(pieces):
            return plain_ids, plain_counts
        is_special = np.array([segment.is_special for segment in pieces])
        counts = np.ones(len(pieces), np.int64)
        counts[~is_special] = plain_counts
        ids = np.empty(int(counts.sum()), np.uint32)
        special = np.repeat(is_special, counts)
        ids[special] = [special_ids[segment.text] for segment in pieces if segment.is_special]
        ids[~special] = plain_ids
        return ids, counts

    def _encode_plain(self, texts: list[str]) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of texts without special tokens in a row, and how many each has."""
        if self.table.n > REMEMBERED_WORDS:
            self.forget()
        cut = cut_gpt2(texts)
        word = self.table.find(cut)
        self._learn()
        first, lengths = self.first[word], self.lengths[word]
        ends = np.cumsum(lengths)
        ids = np.empty(int(ends[-1]) if len(ends) else 0, np.uint32)
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

    def _learn(self) -> None:
        """Encode the words that the table has got since the last time."""
        n_known = len(self.first)
        if self.table.n == n_known:
            return
        try:
            found, lengths = self.merger.merge(*self.table.words(n_known))
        except InputError:
            self.forget()  # the table holds a word that has no ids
            raise
        ends = np.cumsum(lengths)
        if self.n_used + len(found) > len(self.ids):
            larger = np.zeros(2 * (self.n_used + len(found)), np.uint32)
            larger[: self.n_used] = self.ids[: self.n_used]
            self.ids = larger
        self.ids[self.n_used : self.n_used + len(found)] = found
        self.first = np.concatenate((self.first, self.n_used + ends - lengths))
        self.lengths = np.concatenate((self.lengths, lengths))
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
