"""Merge the bytes of a word into tokens: the twin of `bpe.merge_word`, made for whole corpora.

What is faster, and what makes it exact:

- Each distinct word is merged once and remembered (`WordEncoder`): in 10 MB of novels 2.3 million
  words are 46,000 different ones.
- A short word is merged by the plain rule on ids. A long one is a linked list whose places wait in
  a bucket for each rank, with a heap of the ranks that have a bucket, so that 1 MB without a space
  takes seconds, not days. As by definition, a pair is merged at all its places, from left to
  right, before the next is looked for: where two pairs make the same bytes, a new neighbour may
  rank lower than the pair that made it.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from lmcore.errors import InputError
from lmcore.tokenizer.bpe import Pair, missing_byte

SHORT_WORD_BYTES = 64
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
    try:
        ids = [table.byte_ids[byte] for byte in word]
    except KeyError as error:
        raise InputError(missing_byte(error.args[0])) from None
    merge = merge_short if len(word) <= SHORT_WORD_BYTES else merge_long
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
