"""A table of words: each distinct word gets a number, the next one, when it is first seen.

A word of up to 15 bytes is two 64-bit numbers: ``low`` holds its bytes 0 to 7, ``high`` its bytes
8 to 14 and, in the top byte, its length. Different words have different pairs of numbers, so
nothing is left to chance. They stand in an open-addressing table: all words of a text are looked up
at once, at the place that their hash gives, and only those that are not found there are looked
further. So a text costs a handful of operations on arrays, where sorting its words, which the table
replaced, cost more and did not know the words of the text before. Longer words (one in 500 of
novels) wait in a dict.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.fast_pretokenize import PADDING, CutText, class_table, side_by_side

LONGEST_KEY = 15  # bytes of a word that is a pair of numbers
SMALLEST_TABLE = 1 << 12
# Odd numbers with bits all over (those of splitmix64 and of xxHash), for multiplicative hashing.
LOW_FACTOR, HIGH_FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)

# By the length of a word, up to 16: which bits of its first 8 bytes, and of the next 8, are its
# own, and what stands in the top byte.
_LOW_MASK = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_HIGH_MASK = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(16)] + [0], np.uint64)
_LENGTH = np.array([n << 56 for n in range(17)], np.uint64)

Keys = NDArray[np.uint64]
Numbers = NDArray[np.signedinteger]


class Words(NamedTuple):
    """Words one after the other: word i is ``text[ends[i - 1] : ends[i]]``."""

    text: bytes
    lengths: Numbers


class WordTable:
    """The distinct words seen so far, numbered from 0 as they came.

    low, high: the key of each word by its number; of a long one, 0.
    slot_low, slot_high, slot_number: the open-addressing table; a number of -1 is a free slot.
    long: the number of each word of more than 15 bytes.
    n: how many words there are.
    """

    def __init__(self) -> None:
        self.low, self.high = (
            np.zeros(SMALLEST_TABLE, np.uint64),
            np.zeros(SMALLEST_TABLE, np.uint64),
        )
        self.long: dict[bytes, int] = {}
        self.n = 0
        self._make_slots(SMALLEST_TABLE)

    def _make_slots(self, n_slots: int) -> None:
        self.shift = np.uint64(64 - n_slots.bit_length() + 1)
        self.slot = np.full(n_slots, -1, np.int32)

    def make_room(self, n_new: int) -> None:
        """So that ``n_new`` more words leave three quarters of the slots free."""
        n = self.n + n_new
        if n >= len(self.low):
            self.low = np.concatenate((self.low, np.zeros(2 * n - len(self.low), np.uint64)))
            self.high = np.concatenate((self.high, np.zeros(2 * n - len(self.high), np.uint64)))
        if 4 * n > len(self.slot):
            self._make_slots(1 << (8 * n - 1).bit_length())
            number = np.flatnonzero(self.high[: self.n])  # the long words have no slot
            self._place(self.low[number], self.high[number], number)

    def find(self, cut: CutText) -> Numbers:
        """The number of every pre-token; a new one for each word that is new."""
        low, high = keys_of(cut)
        slot = self._home(low, high)
        number = self.slot[slot]  # that of a free slot, -1, has a key of 0: no word's
        known = (self.low[number] == low) & (self.high[number] == high)
        if len(other := np.flatnonzero(~known)):
            is_long = cut.lengths[other] > LONGEST_KEY
            elsewhere = other[~is_long]
            number[elsewhere] = self._look_further(low[elsewhere], high[elsewhere], slot[elsewhere])
            long = other[is_long]
            self.find_long(cut.raw, long, cut.starts[long], cut.lengths[long], number)
        return number

    def find_compiled(self, texts: Sequence[str], compiled: ModuleType) -> tuple[Numbers, Numbers]:
        """What `cut_gpt2` and `find` give: the numbers, and the first pre-token of each text."""
        raw = np.frombuffer(side_by_side(texts), np.uint8)
        eight = np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))
        number = np.empty(len(raw), np.int32)
        first = np.zeros(len(texts) + 1, np.int64)
        long = np.empty((3, 1_024), np.int64)
        state = np.array([0, 0, 0, self.n, 0])
        while state[0] < len(raw) - len(PADDING):
            self.make_room(max(1, self.n // 8))
            compiled.number_words(
                *(raw, eight, class_table(), state, self.low, self.high),
                *(self.slot, self.shift, LOW_FACTOR, HIGH_FACTOR, _LOW_MASK, _HIGH_MASK),
                *(number, first, *long),
            )
            self.n = int(state[3])
            place, starts, ends = long[:, : state[4]]
            self.find_long(raw, place, starts, ends - starts, number)
            state[3:] = self.n, 0
        return number[: state[1]], first

    def find_long(
        self,
        raw: NDArray[np.uint8],
        places: Numbers,
        starts: Numbers,
        lengths: Numbers,
        number: NDArray,
    ) -> None:
        """Write the numbers of long words into ``number`` at these places."""
        for place, start, length in zip(
            places.tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            word = raw[start : start + length].tobytes()
            if word not in self.long:
                self.make_room(1)
                self.long[word] = self.n
                self.low[self.n] = self.high[self.n] = 0
                self.n += 1
            number[place] = self.long[word]

    def _home(self, low: Keys, high: Keys) -> Numbers:
        """The slot where each key is looked for first."""
        return ((low * LOW_FACTOR + high * HIGH_FACTOR) >> self.shift).astype(np.int64)

    def _look_further(self, low: Keys, high: Keys, slot: Numbers) -> Numbers:
        """The numbers of keys that are not in their own slot: in one after it, or new."""
        number = np.empty(len(low), np.int64)
        left = np.arange(len(low))
        new = []
        while len(left):
            there = self.slot[slot]
            free = there < 0
            new.append(left[free])
            found = (self.low[there] == low[left]) & (self.high[there] == high[left])
            number[left[found]] = there[found]
            on = ~(free | found)
            left, slot = left[on], (slot[on] + 1) & (len(self.slot) - 1)
        left = np.concatenate(new) if new else left
        if len(left):
            number[left] = self._add(low[left], high[left])
        return number

    def _add(self, low: Keys, high: Keys) -> Numbers:
        """Number words that are not in the table; equal ones get the same number."""
        order = np.lexsort((low, high))
        low, high = low[order], high[order]
        begins = np.ones(len(low), bool)
        begins[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        starts = np.flatnonzero(begins)
        self.make_room(len(starts))
        number = np.arange(self.n, self.n + len(starts))
        self.low[number], self.high[number] = low[starts], high[starts]
        self._place(low[starts], high[starts], number)
        self.n += len(starts)
        result = np.empty(len(low), np.int64)
        result[order] = self.n - len(starts) + np.cumsum(begins) - 1
        return result

    def _place(self, low: Keys, high: Keys, number: Numbers) -> None:
        """Put distinct keys that are not in the table into free slots."""
        slot = self._home(low, high)
        left = np.arange(len(low))
        while len(left):
            free = np.flatnonzero(self.slot[slot] < 0)
            # Where several want one slot, the last one written has it.
            self.slot[slot[free]] = number[left[free]]
            on = self.slot[slot] != number[left]
            left, slot = left[on], (slot[on] + 1) & (len(self.slot) - 1)

    def words(self, first: int = 0) -> Words:
        """The words from number ``first`` on."""
        low, high = self.low[first : self.n], self.high[first : self.n]
        rows = np.stack((low, high), axis=1).astype("<u8", copy=False).view(np.uint8)
        lengths = rows[:, LONGEST_KEY].astype(np.int64)
        rows = rows[np.arange(16) < lengths[:, None]]
        text = rows.tobytes()
        if not self.long:
            return Words(text, lengths)
        return _with_long(
            Words(text, lengths), [(n - first, w) for w, n in self.long.items() if n >= first]
        )


def _with_long(words: Words, long: list[tuple[int, bytes]]) -> Words:
    """``words`` with the long ones, so far of no length, at their numbers."""
    starts = np.cumsum(words.lengths) - words.lengths
    parts, done = [], 0
    for number, word in sorted(long):
        start = int(starts[number])
        parts += [words.text[done:start], word]
        done = start
        words.lengths[number] = len(word)
    return Words(b"".join([*parts, words.text[done:]]), words.lengths)


def keys_of(cut: CutText) -> tuple[Keys, Keys]:
    """The key of each pre-token; of one longer than 15 bytes, a key that no word has."""
    length = np.minimum(cut.lengths, LONGEST_KEY + 1)
    at_any_byte = np.ndarray(len(cut.raw) - 7, "<u8", cut.raw, strides=(1,))
    low = at_any_byte[cut.starts] & _LOW_MASK[length]
    high = (at_any_byte[cut.starts + 8] & _HIGH_MASK[length]) | _LENGTH[length]
    return low, high
