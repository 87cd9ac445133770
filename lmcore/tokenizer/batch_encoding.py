"""Encode many texts into one array, by the gpt2 pattern: the twin of `Tokenizer.encode`.

The texts are cut on arrays (`fast_pretokenize`), some hundred kilobytes of them side by side; their
words are numbered by a table (`word_table`); each word is encoded once, when it is first seen, with
all new words of some megabytes; and the ids are laid out by a few operations on arrays. No Python
object is made for a pre-token or an id.

Most words are one token (97 in 100 of novels, with 32,000 tokens), so the ids of a text are first
taken to be one for each word; the words of several tokens, and of none, are then put right.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.tokenizer.engine import Engine, compiled
from lmcore.tokenizer.fast_encoding import MergeTable, WordMerger
from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.segments import Segment, segments
from lmcore.tokenizer.word_table import WordTable

BATCH_CHARACTERS = 1 << 18
GROUP_BATCHES = 16  # whose new words are encoded together
REMEMBERED_WORDS, REMEMBERED_BYTES = 1 << 19, 1 << 25
"""About 40 MB, and as much again for words too long for a key; when there are more, the memory
starts afresh (natural text repeats words soon)."""
NOT_ONE = np.uint32(1 << 31)  # in the place of an id: the word has several, or none

Ids = NDArray[Any]  # uint16 or uint32


class Batch(NamedTuple):
    """Pieces of texts that are encoded together.

    text: by piece, which of the texts it belongs to.
    pieces: plain text and special tokens.
    """

    text: list[int]
    pieces: list[Segment]


class Numbered(NamedTuple):
    """The words of some texts, as numbers of the table.

    number: one after the other, barriers among them as 0.
    ends: how many of them stand before the end of each text.
    n_bytes: of the texts, or a few more.
    """

    number: NDArray[np.signedinteger]
    ends: NDArray[np.int64]
    n_bytes: int


class BatchEncoder:
    """The words that encoding has seen, and the ids of each.

    table: the words, numbered.
    one: by number, the id of a word that is one token; of any other, `NOT_ONE`; uint32.
    ids, n_used: the ids of all words, one word after the other, and how many there are.
    first, count: by number, where the ids of each word begin in ``ids``, and how many it has.
    lock: threads that share an encoder take turns, some megabytes each.
    """

    def __init__(self, merges: MergeTable, dtype: type = np.uint32) -> None:
        self.dtype = dtype
        self.merger = WordMerger(merges)
        self.n_read = 0
        self.lock = Lock()
        self.forget()

    def forget(self) -> None:
        """Start afresh. Number 0, no word, has no ids."""
        self.table = WordTable()
        self.ids, self.n_used = np.zeros(0, self.dtype), 0
        self.one = np.full(1, NOT_ONE)
        self.first, self.count = np.zeros(1, np.int64), np.zeros(1, np.int64)

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
        batches = _batches(texts, tuple(special_ids), n_ids)
        while group := list(islice(batches, GROUP_BATCHES)):
            with self.lock:
                encoded = self._encode_group(group, engine)
            for batch, (found, counts) in zip(group, encoded, strict=True):
                found, counts = self._with_special(batch.pieces, found, counts, special_ids)
                ids.append(found)
                for text, n in zip(batch.text, counts.tolist(), strict=True):
                    n_ids[text] += n
        return np.concatenate(ids), np.cumsum([0, *n_ids], dtype=np.int64)

    def _encode_group(
        self, group: list[Batch], engine: Engine
    ) -> list[tuple[Ids, NDArray[np.int64]]]:
        """For each batch, the ids of its plain pieces in a row, and how many each piece has."""
        if self.table.n > REMEMBERED_WORDS or self.table.other_bytes > REMEMBERED_BYTES:
            self.forget()
        numbered = [self._number(batch.pieces, engine) for batch in group]
        kernels = compiled(engine, self.n_read)
        self._learn(kernels)
        return [self._lay_out(words, kernels) for words in numbered]

    def _number(self, pieces: list[Segment], engine: Engine) -> Numbered:
        """The words of the plain pieces."""
        kernels = compiled(engine, self.n_read)
        plain = [piece.text for piece in pieces if not piece.is_special]
        self.n_read += sum(map(len, plain))
        cut = cut_gpt2(plain)
        number = self.table.find_compiled(cut, kernels) if kernels else self.table.find(cut)
        return Numbered(number, cut.ends, len(cut.raw))

    def _learn(self, kernels: ModuleType | None) -> None:
        """Encode the words that the table has got since the last time."""
        n_known = len(self.one)
        if self.table.n == n_known:
            return
        try:
            found, count = self.merger.merge(*self.table.words(n_known), kernels)
        except InputError:
            self.forget()  # the table holds a word that has no ids
            raise
        first = self.n_used + np.cumsum(count) - count
        if self.n_used + len(found) > len(self.ids):
            larger = np.zeros(2 * (self.n_used + len(found)), self.dtype)
            larger[: self.n_used] = self.ids[: self.n_used]
            self.ids = larger
        self.ids[self.n_used : self.n_used + len(found)] = found
        self.n_used += len(found)
        one = np.where(count == 1, self.ids[first], NOT_ONE)
        self.one = np.concatenate((self.one, one))
        self.first = np.concatenate((self.first, first))
        self.count = np.concatenate((self.count, count))

    def _lay_out(
        self, words: Numbered, kernels: ModuleType | None
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of numbered words in a row, and how many each text has."""
        if kernels:
            return self._lay_out_compiled(words, kernels)
        one = self.one.take(words.number)
        ids = one.astype(self.dtype)
        others = (one >= NOT_ONE).nonzero()[0]
        if not len(others):
            return ids, np.diff(words.ends, prepend=0)
        number = words.number[others]
        n_ids = self.count[number]
        beyond = np.cumsum(np.concatenate(([0], n_ids - 1)))  # ids more than words, so far
        several = n_ids > 1
        place, first, n_each = (others + beyond[:-1])[several], self.first[number], n_ids[several]
        step = np.arange(n_each.sum()) - np.repeat(np.cumsum(n_each) - n_each, n_each)
        place = np.repeat(place, n_each) + step
        # Make room: all words move up at once, then the places in between are filled.
        wider = np.empty(len(ids) + int(beyond[-1]), self.dtype)
        is_first = np.ones(len(wider), bool)
        is_first[place[step > 0]] = False
        wider[is_first] = _without(ids, others[n_ids == 0])
        wider[place] = self.ids[np.repeat(first[several], n_each) + step]
        ends = words.ends + beyond[np.searchsorted(others, words.ends)]
        return wider, np.diff(ends, prepend=0)

    def _lay_out_compiled(
        self, words: Numbered, kernels: ModuleType
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The same, compiled."""
        ids = np.empty(words.n_bytes, self.dtype)  # no token is shorter than a byte
        ends = np.empty(len(words.ends), np.int64)
        n = kernels.lay_out(
            *(words.number, words.ends, self.one, NOT_ONE, self.first, self.count),
            *(self.ids, ids, ends),
        )
        return ids[:n].copy(), np.diff(ends, prepend=0)

    def _with_special(
        self,
        pieces: list[Segment],
        plain_ids: Ids,
        plain_counts: NDArray[np.int64],
        special_ids: dict[str, int],
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of all pieces in a row, and how many each has."""
        if len(plain_counts) == len(pieces):
            return plain_ids, plain_counts
        is_special = np.array([piece.is_special for piece in pieces])
        counts = np.ones(len(pieces), np.int64)
        counts[~is_special] = plain_counts
        ids = np.empty(int(counts.sum()), self.dtype)
        special = np.repeat(is_special, counts)
        ids[special] = [special_ids[piece.text] for piece in pieces if piece.is_special]
        ids[~special] = plain_ids
        return ids, counts


def _without(values: Ids, places: NDArray[np.int64]) -> Ids:
    """``values`` less those at a few places: copied piece by piece."""
    starts, ends = [0, *(places + 1).tolist()], [*places.tolist(), len(values)]
    return np.concatenate([values[a:b] for a, b in zip(starts, ends, strict=True)])


def _batches(
    texts: Iterable[str], special_tokens: tuple[str, ...], n_ids: list[int]
) -> Iterator[Batch]:
    """Pieces of the texts, gathered; ``n_ids`` gets a zero for each text."""
    batch = Batch([], [])
    n_waiting = 0
    for place, text in enumerate(texts):
        n_ids.append(0)
        for piece in segments([text], "gpt2", special_tokens, BATCH_CHARACTERS):
            batch.text.append(place)
            batch.pieces.append(piece)
            n_waiting += len(piece.text)
            if n_waiting >= BATCH_CHARACTERS:
                yield batch
                batch, n_waiting = Batch([], []), 0
    if batch.pieces:
        yield batch
