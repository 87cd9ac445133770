"""Merge the bytes of a word into tokens: the twin of `bpe.merge_word`, made for whole corpora.

What is faster, and what makes it exact:

- Each distinct word is merged once and remembered (`WordEncoder`): in 10 MB of novels 2.3 million
  words are 46,000 different ones.
- Many words are merged side by side on arrays (`WordMerger`): each round takes the best pair of
  every word that has one. A table finds the rank of a pair, as `word_table` finds a word.
- A short word is merged by the plain rule on ids. A long one is a linked list whose places wait in
  a bucket for each rank, with a heap of the ranks that have a bucket: n log n steps. As by
  definition, a pair is merged at all its places, from left to right, before the next is looked
  for: where two pairs make the same bytes, a new neighbour may rank lower than the pair that made
  it. Much text in long words is merged in the same way on arrays (`long_words`).
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import Pair, missing_byte
from lmcore.tokenizer.long_words import EDGE, Rules, merge_row
from lmcore.tokenizer.word_table import HIGH_FACTOR, LOW_FACTOR

PLAIN_RULE_BYTES = 12  # up to here a short list is searched sooner than buckets are filled
SHORT_WORD_BYTES = 64
ROW_BYTES = 2_048  # of long words together: from here on they are merged in one row
ARRAY_WORD_BYTES = 1 << 16
FEW_WORDS = 32  # one by one they are merged sooner than on arrays
REMEMBERED_WORD_CHARACTERS = 64
REMEMBERED_WORDS = 1 << 18
"""About 60 MB; when it is full, the memory starts afresh (natural text repeats words soon)."""


class MergeTable(NamedTuple):
    """The merges as ids.

    byte_ids: the id of each byte that has one, as all 256 have after training.
    ranks: the place in the order of merges, by pair of ids.
    made: the id that each merge makes, by rank.
    """

    byte_ids: dict[int, int]
    ranks: dict[tuple[int, int], int]
    made: list[int]


def merge_table(ids: Mapping[bytes, int], merges: Mapping[Pair, bytes]) -> MergeTable:
    """Look up the id of every byte, and of every token of ``merges``."""
    return MergeTable(
        byte_ids={byte: ids[one] for byte in range(256) if (one := bytes([byte])) in ids},
        ranks={(ids[left], ids[right]): rank for rank, (left, right) in enumerate(merges)},
        made=[ids[token] for token in merges.values()],
    )


class WordEncoder(dict[str, tuple[int, ...]]):
    """A memory of words: look a word up, and its ids are found or made.

    A dict, so that looking up what is known runs at the speed of a dict.
    """

    def __init__(self, table: MergeTable) -> None:
        super().__init__()
        self.table = table

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(merge_ids(word.encode(), self.table))
        if len(word) <= REMEMBERED_WORD_CHARACTERS:
            if len(self) >= REMEMBERED_WORDS:
                self.clear()
            self[word] = ids
        return ids


def merge_ids(word: bytes, table: MergeTable) -> list[int]:
    """The ids of one pre-token: the pair of lowest rank is merged first, until none is left."""
    if len(word) >= ARRAY_WORD_BYTES:
        # To build the tables takes some 20 ms, less than they save.
        one_word = np.array([len(word)])
        return WordMerger(table).merge(word, one_word)[0].tolist()
    try:
        ids = [table.byte_ids[byte] for byte in word]
    except KeyError as error:
        raise InputError(missing_byte(error.args[0])) from None
    merge = merge_short if len(word) <= PLAIN_RULE_BYTES else merge_long
    return merge(ids, table)


def merge_short(ids: list[int], table: MergeTable) -> list[int]:
    """The plain rule: the best is a fast look-up away in a short list."""
    ranks = table.ranks
    none = len(ranks)
    while len(ids) > 1:
        rank_at = [ranks.get(pair, none) for pair in pairwise(ids)]
        best = min(rank_at)
        if best == none:
            break
        merged: list[int] = []
        i = 0
        while i < len(rank_at):
            joins = rank_at[i] == best
            merged.append(table.made[best] if joins else ids[i])
            i += 1 + joins
        ids = merged + ids[i:]
    return ids


def merge_long(ids: Sequence[int], table: MergeTable) -> list[int]:
    """The same in n log n: buckets of places by rank, on a linked list."""
    ranks, n = table.ranks, len(ids)
    symbol: list[int] = [*ids, -1]  # -1 at the end, and where a merge took the place away
    after = [*range(1, n + 1), n]
    before = list(range(-1, n))
    buckets: dict[int, list[int]] = {}
    for place, pair in enumerate(pairwise(ids)):
        if (rank := ranks.get(pair)) is not None:
            buckets.setdefault(rank, []).append(place)
    waiting = list(buckets)
    heapq.heapify(waiting)

    def wait(place: int) -> None:
        rank = ranks.get((symbol[place], symbol[after[place]]))
        if rank is not None:
            if rank not in buckets:
                buckets[rank] = []
                heapq.heappush(waiting, rank)
            buckets[rank].append(place)

    while waiting:
        rank = heapq.heappop(waiting)
        new = table.made[rank]
        for place in sorted(buckets.pop(rank)):
            right = after[place]
            if ranks.get((symbol[place], symbol[right])) != rank:
                continue  # a merge has changed what stood here
            symbol[place], symbol[right] = new, -1
            after[place] = after[right]
            before[after[right]] = place
            wait(place)
            if before[place] >= 0:
                wait(before[place])
    return [token for token in symbol if token >= 0]


class WordMerger:
    """Merges many words at once."""

    def __init__(self, table: MergeTable) -> None:
        self.table = table
        self.byte_ids = np.array([table.byte_ids.get(byte, -1) for byte in range(256)])
        self.made = np.array([*table.made, 0], np.int64)
        self.ranks = PairRanks(table.ranks)

    def merge(
        self, text: bytes, lengths: NDArray[np.int64], kernels: ModuleType | None = None
    ) -> tuple[NDArray, NDArray[np.int64]]:
        """The ids of words.

        Args:
          text: the words one after the other.
          lengths: bytes of each.
          kernels: the compiled functions, if they are to do it.

        Returns:
          ``(ids, lengths)``: the ids one after the other, and how many each word has.

        Raises:
          InputError: a byte is not in the vocabulary.
        """
        n_words = len(lengths)
        is_long = lengths > SHORT_WORD_BYTES
        if is_long.any() and int(lengths[is_long].sum()) >= ROW_BYTES:
            return self._merge_apart(text, lengths, is_long, kernels)
        ids = self._ids_of(np.frombuffer(text, np.uint8))
        word = np.repeat(np.arange(n_words), lengths)
        alone = lengths > (0 if n_words <= FEW_WORDS and not kernels else SHORT_WORD_BYTES)
        done = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]  # ids, and their words
        if alone.any():
            ends = np.cumsum(lengths)
            for number in np.flatnonzero(alone).tolist():
                end = int(ends[number])
                merged = merge_ids(text[end - int(lengths[number]) : end], self.table)
                done.append((np.array(merged, np.int64), np.full(len(merged), number)))
            together = ~alone[word]
            ids, word = ids[together], word[together]
        if kernels and len(ids):
            found = self._merge_compiled(ids, lengths[~alone], np.flatnonzero(~alone), kernels)
            if not alone.any():
                return found[0], np.bincount(found[1], minlength=n_words)
            done.append(found)
            ids = ids[:0]
        while len(ids):
            ids, word, finished = self._round(ids, word)
            done.append(finished)
        ids, word = (np.concatenate(arrays) for arrays in zip(*done, strict=True))
        order = np.argsort(word, kind="stable")
        return ids[order], np.bincount(word, minlength=n_words)

    def _ids_of(self, byte: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The id of each byte."""
        ids = self.byte_ids[byte]
        if len(missing := np.flatnonzero(ids < 0)):
            raise InputError(missing_byte(int(byte[missing[0]])))
        return ids

    def _merge_apart(
        self, text: bytes, lengths: NDArray, is_long: NDArray, kernels: ModuleType | None
    ) -> tuple[NDArray, NDArray[np.int64]]:
        """Merge the long words in one row, and the others without them."""
        byte = np.frombuffer(text, np.uint8)
        in_long = np.repeat(is_long, lengths)
        others, n_others = self.merge(byte[~in_long].tobytes(), lengths[~is_long], kernels)
        found, n_found = self._merge_row(byte[in_long], lengths[is_long])
        n_ids = np.empty(len(lengths), np.int64)
        n_ids[is_long], n_ids[~is_long] = n_found, n_others
        in_long = np.repeat(is_long, n_ids)
        ids = np.empty(len(in_long), np.int64)
        ids[in_long], ids[~in_long] = found, others
        return ids, n_ids

    def _merge_row(self, byte: NDArray[np.uint8], lengths: NDArray) -> tuple[NDArray, NDArray]:
        """The ids of words, and how many each has."""
        row = np.full(len(byte) + len(lengths), EDGE, np.int32)
        is_byte = np.ones(len(row), bool)
        is_byte[np.cumsum(lengths + 1) - 1] = False  # an EDGE after each word
        row[is_byte] = self._ids_of(byte)
        merged = merge_row(row, Rules(self.table.ranks, self.ranks.find, self.made))
        is_edge = merged == EDGE
        return merged[~is_edge], np.diff(np.flatnonzero(is_edge), prepend=-1) - 1

    def _merge_compiled(
        self, ids: NDArray, lengths: NDArray, which: NDArray, kernels: ModuleType
    ) -> tuple[NDArray, NDArray]:
        """Merge the words of these numbers; the ids, and the word of each."""
        ranks = self.ranks
        n = kernels.merge_each(
            *(ids, lengths, ranks.left, ranks.right, ranks.rank, ranks.none),
            *(ranks.shift, LOW_FACTOR, HIGH_FACTOR, self.made),
        )
        return ids[:n], np.repeat(which, lengths)

    def _round(self, ids: NDArray, word: NDArray) -> tuple[NDArray, NDArray, tuple]:
        """Merge the best pair of every word; ids and words left, and those that have no pair."""
        none = self.ranks.none
        rank = np.full(len(ids), none)
        inside = np.flatnonzero(word[1:] == word[:-1])
        rank[inside] = self.ranks.find(ids[inside], ids[inside + 1])
        begins = np.ones(len(word), bool)
        np.not_equal(word[1:], word[:-1], out=begins[1:])
        starts = np.flatnonzero(begins)
        best = np.minimum.reduceat(rank, starts)
        best = np.repeat(best, np.diff(starts, append=len(word)))
        hit = np.flatnonzero((rank == best) & (best < none))
        hit = hit[_every_other(hit)]
        ids[hit] = self.made[rank[hit]]
        kept = best < none
        finished = (ids[~kept], word[~kept])
        kept[hit + 1] = False
        return ids[kept], word[kept], finished


def _every_other(places: NDArray) -> NDArray[np.bool_]:
    """In each run of places in a row, every other one, from the first on."""
    index = np.arange(len(places))
    begins = np.ones(len(places), bool)
    begins[1:] = places[1:] != places[:-1] + 1
    return (index - np.maximum.accumulate(np.where(begins, index, 0))) % 2 == 0


class PairRanks:
    """The rank of every pair that merges, in an open-addressing table.

    none: the rank of any other pair, greater than all.
    left, right, rank: by slot; a rank of ``none`` is a free slot.
    """

    def __init__(self, ranks: Mapping[tuple[int, int], int]) -> None:
        self.none = len(ranks)
        n_slots = 1 << max(4, (8 * len(ranks)).bit_length())
        self.shift = np.uint64(64 - n_slots.bit_length() + 1)
        self.left, self.right = np.full(n_slots, -1), np.full(n_slots, -1)
        self.rank = np.full(n_slots, self.none)
        pairs = np.array(list(ranks), np.int64).reshape(-1, 2)
        slot = self._home(pairs[:, 0], pairs[:, 1])
        left = np.arange(len(pairs))
        while len(left):
            free = self.rank[slot] == self.none
            # Where several want one slot, the last one written has it.
            self.rank[slot[free]] = left[free]
            on = self.rank[slot] != left
            self.left[slot[~on]], self.right[slot[~on]] = pairs[left[~on]].T
            left, slot = left[on], (slot[on] + 1) & (n_slots - 1)

    def _home(self, left: NDArray, right: NDArray) -> NDArray[np.int64]:
        key = left.astype(np.uint64) * LOW_FACTOR + right.astype(np.uint64) * HIGH_FACTOR
        return (key >> self.shift).astype(np.int64)

    def find(self, left: NDArray, right: NDArray) -> NDArray[np.int64]:
        """The rank of each pair."""
        slot = self._home(left, right)
        rank = self.rank[slot]
        found = (self.left[slot] == left) & (self.right[slot] == right)
        on = np.flatnonzero(~found & (rank < self.none))
        slot = slot[on]
        while len(on):
            slot = (slot + 1) & (len(self.rank) - 1)
            rank[on] = self.rank[slot]
            other = (self.left[slot] != left[on]) | (self.right[slot] != right[on])
            more = other & (rank[on] < self.none)
            on, slot = on[more], slot[more]
        return rank
