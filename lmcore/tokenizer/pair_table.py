"""What training knows while it merges: the words in a row, and every pair with count and places."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.runs import Ids, run_lengths, run_starts, sums_of_runs, where_true, with_room
from lmcore.tokenizer.word_counts import WordCounts

Places = NDArray[np.signedinteger]

EDGE = -1  # the symbol between words
GONE = -2  # the symbol of a place that a merge took away
NO_OWNER = 1 << 30  # greater than the number of any pair in a batch
WATCHED_SHARE = 64  # a level is set so that one pair in so many is above it


class Row(NamedTuple):
    """All words in one row, an EDGE before, between and after; changed in place by `merge_batch`.

    symbol: the id at each place, or EDGE, or GONE.
    after, before: the next and the last place that is not GONE.
    weight: how often the word of this place is seen.
    pair: the number of the pair that begins at this place, 0 where none does.
    owner: NO_OWNER everywhere; `merge_batch` marks its places there, and wipes them out again.
    """

    symbol: NDArray[np.int32]
    after: Places
    before: Places
    weight: NDArray[np.int64]
    pair: NDArray[np.int32]
    owner: NDArray[np.int32]


def words_in_a_row(words: WordCounts, first_byte_id: int) -> Row:
    """The words as bytes; those of a single byte have no pair and are left out."""
    several = words.lengths > 1
    lengths, times = words.lengths[several], words.times[several]
    text = np.frombuffer(words.text, np.uint8)[np.repeat(several, words.lengths)]
    symbol = np.full(len(text) + len(lengths) + 1, EDGE, np.int32)
    is_byte = np.ones(len(symbol), bool)
    is_byte[0] = False
    is_byte[np.cumsum(lengths + 1)] = False
    symbol[is_byte] = text.astype(np.int32) + first_byte_id
    weight = np.append(np.repeat(times, lengths + 1), 0)
    place = np.arange(len(symbol), dtype=np.int32 if len(symbol) < 1 << 31 else np.int64)
    pair = np.zeros(len(symbol), np.int32)
    # One more than there are places: the place before the first one, -1, has no owner.
    owner = np.full(len(symbol) + 1, NO_OWNER, np.int32)
    return Row(symbol, place + 1, place - 1, weight, pair, owner)


# Count, left token, right token and number of a pair: the greatest is merged first.
Ranked = tuple[int, bytes, bytes, int]


class PairTable:
    """Every pair that was ever seen, by number; number 0 is no pair.

    left, right: the tokens of a pair.
    count: how often it is seen now.
    first, n_places: its places are ``places[first : first + n_places]``, ascending: all that it
      has, and some that it had.
    n, n_placed: how much of these arrays is in use.
    watched: the pairs with a count of at least ``level``.
    """

    def __init__(self, row: Row, first_byte_id: int) -> None:
        where = where_true((row.symbol[:-1] >= 0) & (row.symbol[1:] >= 0))
        left, right = row.symbol[where] - first_byte_id, row.symbol[where + 1] - first_byte_id
        key = (left * 256 + right).astype(np.uint16)
        order = np.argsort(key, kind="stable")  # a radix sort: two bytes
        key = key[order]
        starts = run_starts(key)
        self.n, self.n_placed = 1, 0
        self.left, self.right = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self.count, self.first = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.n_places = np.zeros(1, np.int64)
        self.places = where[:0].astype(row.after.dtype)
        self.watched, self.level = np.zeros(0, np.int64), 1
        first = key[starts].astype(np.int32)
        self.add(
            first // 256 + first_byte_id,
            first % 256 + first_byte_id,
            sums_of_runs(row.weight[where[order]], starts),
            where[order].astype(row.after.dtype),
            starts,
        )
        self.watched = self.watched[:0]
        row.pair[where[order]] = np.repeat(np.arange(1, self.n), self.n_places[1 : self.n])

    def add(
        self, left: NDArray, right: NDArray, count: NDArray, places: Places, starts: Ids
    ) -> None:
        """Number new pairs; the places of each begin at ``starts``."""
        old, new = self.n, self.n + len(starts)
        for name in ("left", "right", "count", "first", "n_places"):
            setattr(self, name, with_room(getattr(self, name), new))
        self.places = with_room(self.places, self.n_placed + len(places))
        self.places[self.n_placed : self.n_placed + len(places)] = places
        self.left[old:new], self.right[old:new], self.count[old:new] = left, right, count
        self.first[old:new] = self.n_placed + starts
        self.n_places[old:new] = run_lengths(starts, len(places))
        self.n, self.n_placed = new, self.n_placed + len(places)

    def most_frequent(self, n: int, vocab: list[bytes]) -> list[Ranked]:
        """The ``n`` pairs that come first, in order; fewer where fewer are above the level."""
        count = self.count[self.watched]
        above = count >= self.level
        self.watched, count = self.watched[above], count[above]
        if not len(self.watched):
            count = self._lower_the_level(n)
        chosen = self.watched
        if len(chosen) > n:
            enough = count >= np.partition(count, len(count) - n)[len(count) - n]
            chosen, count = chosen[enough], count[enough]
        ranked = [
            (times, vocab[left], vocab[right], number)
            for times, left, right, number in zip(
                count.tolist(),
                self.left[chosen].tolist(),
                self.right[chosen].tolist(),
                chosen.tolist(),
                strict=True,
            )
        ]
        ranked.sort(reverse=True)
        return ranked[:n]

    def _lower_the_level(self, n: int) -> NDArray[np.int64]:
        """Watch at least ``n`` pairs, if so many are left; their counts."""
        count = self.count[: self.n]
        n_left = int(np.count_nonzero(count))
        if not n_left:
            return count[:0]
        n_watched = min(n_left, max(n, n_left // WATCHED_SHARE))
        self.level = int(np.partition(count, len(count) - n_watched)[len(count) - n_watched])
        self.watched = where_true(count >= self.level)
        return count[self.watched]
