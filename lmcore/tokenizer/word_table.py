"""A table of words: each distinct word gets a number, the next one, when it is first seen.

Nearly every word of a text (93 in 100 of novels) has at most 8 bytes, and is one 64-bit number, its
key: the 8 bytes that begin where it begins, shifted to the left until those behind it are gone.
Words of 9 to 16 bytes are two such numbers. Different words have different keys, so nothing is left
to chance. Longer words wait in a dict, and so do words with a zero byte, for which the shift would
not tell "0 a" from "a".

Keys stand in open-addressing tables, short words in one and middle ones in another. All words of a
text are looked up at once, at the slot that their hash gives; only those that are not found there
are looked further. So a text costs a handful of operations on arrays. A slot holds the number
alone, four bytes: what a text looks up most came first, so it lies side by side in the arrays by
number, and stays in the processor's cache.

Number 0 is no word: a free slot holds it, and it stands for the barriers between texts.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.fast_pretokenize import PADDING, CutText

SHORT, LONGEST_KEY = 8, 16  # bytes of a word that is one number, and of one that is two
SMALLEST_TABLE = 1 << 12
# Odd numbers with bits all over (those of splitmix64 and of xxHash), for multiplicative hashing.
LOW_FACTOR, HIGH_FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
NO_KEY = 1  # the key of number 0: a byte 1, then seven zero bytes, which is no word of the tables

Keys = NDArray[np.uint64]
Numbers = NDArray[np.signedinteger]


class Words(NamedTuple):
    """Words one after the other: word i is ``text[ends[i - 1] : ends[i]]``."""

    text: bytes
    lengths: Numbers


class Slots:
    """An open-addressing table of numbers: a key is in the slot of its hash, or in one after it.

    number: by slot; 0 where it is free.
    shift: of the hash's 64 bits the upper ones are the slot.
    n: how many slots are taken.
    """

    def __init__(self, n_slots: int = SMALLEST_TABLE) -> None:
        self.shift = np.uint64(64 - n_slots.bit_length() + 1)
        self.number = np.zeros(n_slots, np.int32)
        self.n = 0

    def has_room(self, n: int) -> bool:
        """Whether half of the slots stay free when so many more are taken."""
        return 2 * (self.n + n) <= len(self.number)

    def grow(self, n: int) -> Numbers:
        """Make room for as many as there are and ``n``, and more; the numbers, taken out."""
        taken = self.number[self.number > 0]
        self.__init__(1 << (4 * (len(taken) + n) - 1).bit_length())
        return taken

    def home(self, low: Keys, high: Keys | None = None) -> Numbers:
        """The slot where each key is looked for first."""
        product = low * LOW_FACTOR
        if high is not None:
            product += high * HIGH_FACTOR
        return (product >> self.shift).view(np.int64)


class WordTable:
    """The distinct words seen so far, numbered from 1 as they came.

    low, high: by number, the first 8 bytes of a word and the next 8, as they are shifted (see
      above); of a word in ``others``, 0.
    length: by number, the bytes of a word.
    short, middle: the tables of words of up to 8 and 16 bytes.
    others, other_bytes: the number of each other word, and how long they are together.
    n: the next number.
    """

    def __init__(self) -> None:
        self.low, self.high = np.full(1, NO_KEY, np.uint64), np.zeros(1, np.uint64)
        self.length = np.zeros(1, np.int64)
        self.short, self.middle = Slots(), Slots()
        self.others: dict[bytes, int] = {}
        self.other_bytes = 0
        self.n = 1

    def find(self, cut: CutText) -> Numbers:
        """The number of every pre-token; a new one for each word that is new; 0 for barriers."""
        raw, starts, lengths = cut.raw, cut.starts, cut.lengths
        # A copy of all 8 bytes from every place on: reading it in any order is fast.
        eight = np.ascontiguousarray(_eight_bytes(raw))
        key = eight.take(starts)
        # A shift of 64 bits or more leaves nothing, and that is the key of no word.
        key <<= _shift(lengths)
        number = self.short.number.take(self.short.home(key)).astype(np.intp)
        known = self.low.take(number) == key
        barriers = cut.barriers()
        known[barriers], number[barriers] = True, 0
        zeros = _with_zeros(raw, starts)
        known[zeros] = False
        if len(other := (~known).nonzero()[0]):
            kind = (lengths[other] > SHORT).astype(np.int8) + (lengths[other] > LONGEST_KEY)
            kind[np.searchsorted(other, zeros)] = 2
            short, middle, rest = (other[kind == i] for i in range(3))
            if len(short):
                low = key[short]
                number[short] = self._look_up(self.short, low, np.zeros_like(low), lengths[short])
            if len(middle):
                low = eight.take(starts[middle])
                high = eight.take(starts[middle] + SHORT) << _shift(lengths[middle] - SHORT)
                number[middle] = self._look_up(self.middle, low, high, lengths[middle])
            for place in rest.tolist():
                start = int(starts[place])
                number[place] = self.other(raw[start : start + int(lengths[place])].tobytes())
        return number

    def find_compiled(self, cut: CutText, compiled: ModuleType) -> Numbers:
        """What `find` gives."""
        starts, lengths = cut.starts.view(np.uint64), cut.lengths
        eight, zeros = _eight_bytes(cut.raw), _with_zeros(cut.raw, cut.starts)
        number = np.empty(len(starts), np.int32)
        state = np.zeros(5, np.int64)
        while True:
            self._make_room()
            n_zeros = int(state[1])
            state[2:] = self.n, self.short.n, self.middle.n
            compiled.number_words(
                *(state, cut.raw, eight, starts, lengths, zeros, self.low, self.high, self.length),
                *(self.short.number.view(np.uint32), self.short.shift),
                *(self.middle.number.view(np.uint32), self.middle.shift),
                *(LOW_FACTOR, HIGH_FACTOR, number),
            )
            place, _, self.n, self.short.n, self.middle.n = state.tolist()
            if place == len(number):
                return number
            if lengths[place] > LONGEST_KEY or state[1] > n_zeros:
                start = int(starts[place])
                word = cut.raw[start : start + int(lengths[place])].tobytes()
                number[place] = self.other(word)
                state[0] += 1

    def _make_room(self) -> None:
        """So that a word of any length can be added to the tables from outside."""
        for slots in (self.short, self.middle):
            if not slots.has_room(1):
                self._place(slots, slots.grow(1))
        self._next_numbers(0, 1)

    def _look_up(self, slots: Slots, low: Keys, high: Keys, lengths: Numbers) -> Numbers:
        """The numbers of words that have keys; new ones for those that are new."""
        slot = slots.home(low, high)
        number = slots.number.take(slot).astype(np.intp)
        left = np.flatnonzero((self.low.take(number) != low) | (self.high.take(number) != high))
        new = [left[:0]]
        while len(left):
            there = number[left]
            if not there.all():
                new.append(left[there == 0])
                left = left[there > 0]
            slot[left] = at = (slot[left] + 1) & (len(slots.number) - 1)
            number[left] = there = slots.number[at]
            left = left[(self.low[there] != low[left]) | (self.high[there] != high[left])]
        left = np.concatenate(new)
        if len(left):
            number[left] = self._add(slots, low[left], high[left], lengths[left])
        return number

    def _add(self, slots: Slots, low: Keys, high: Keys, lengths: Numbers) -> Numbers:
        """Number words that are not in the table; equal ones get the same number."""
        order = np.lexsort((low, high)) if high.any() else np.argsort(low)
        low, high, lengths = low[order], high[order], lengths[order]
        begins = np.ones(len(low), bool)
        begins[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        starts = np.flatnonzero(begins)
        number = self._next_numbers(len(starts))
        self.low[number], self.high[number] = low[starts], high[starts]
        self.length[number] = lengths[starts]
        self._place(slots, number)
        result = np.empty(len(low), np.int64)
        result[order] = number[0] + np.cumsum(begins) - 1
        return result

    def _next_numbers(self, n: int, n_more: int = 0) -> Numbers:
        """Take so many numbers, and make room for them, and some more."""
        if self.n + n + n_more > len(self.low):
            for name in ("low", "high", "length"):
                old = getattr(self, name)
                larger = np.zeros(max(SMALLEST_TABLE, 2 * (self.n + n + n_more)), old.dtype)
                larger[: self.n] = old[: self.n]
                setattr(self, name, larger)
        self.n += n
        return np.arange(self.n - n, self.n)

    def _place(self, slots: Slots, number: Numbers) -> None:
        """Put words that are not there into free slots; half of them stay free."""
        if not slots.has_room(len(number)):
            number = np.concatenate((np.sort(slots.grow(len(number))), number))
        slots.n += len(number)
        slot = slots.home(self.low[number], self.high[number])
        while len(number):
            # Where several want one slot, the last one written has it: the word that came first.
            free = np.flatnonzero(slots.number[slot] == 0)[::-1]
            slots.number[slot[free]] = number[free]
            on = slots.number[slot] != number
            number, slot = number[on], (slot[on] + 1) & (len(slots.number) - 1)

    def other(self, word: bytes) -> int:
        """The number of a word that has no key."""
        if word not in self.others:
            number = self._next_numbers(1)
            self.length[number] = len(word)
            self.others[word] = int(number[0])
            self.other_bytes += len(word)
        return self.others[word]

    def words(self, first: int = 1) -> Words:
        """The words from number ``first`` on."""
        low, high = self.low[first : self.n], self.high[first : self.n]
        lengths = self.length[first : self.n].copy()
        others = [(number - first, word) for word, number in self.others.items() if number >= first]
        lengths[[number for number, _ in others]] = 0
        low = low >> _shift(np.minimum(lengths, SHORT))
        high = high >> _shift(lengths - SHORT)
        rows = np.stack((low, high), axis=1).astype("<u8", copy=False).view(np.uint8)
        text = rows[np.arange(LONGEST_KEY) < lengths[:, None]].tobytes()
        return _with_others(Words(text, lengths), others) if others else Words(text, lengths)


def _eight_bytes(raw: NDArray[np.uint8]) -> Keys:
    """The eight bytes from each place on, as one number, the first of them the lowest."""
    return np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))


def _shift(lengths: Numbers) -> Keys:
    """How far to shift eight bytes so that so many are left; beyond eight, by a huge number."""
    shift = lengths * -8
    shift += 64
    return shift.view(np.uint64)


def _with_zeros(raw: NDArray[np.uint8], starts: Numbers) -> Numbers:
    """The pre-tokens that hold a zero byte."""
    text = raw[: -len(PADDING)]
    if text.min(initial=1):
        return starts[:0]
    return np.unique(np.searchsorted(starts, np.flatnonzero(text == 0), side="right") - 1)


def _with_others(words: Words, others: list[tuple[int, bytes]]) -> Words:
    """``words`` with those that have no key, so far of no length, at their numbers."""
    starts = np.cumsum(words.lengths) - words.lengths
    parts, done = [], 0
    for number, word in sorted(others):
        start = int(starts[number])
        parts += [words.text[done:start], word]
        done = start
        words.lengths[number] = len(word)
    return Words(b"".join([*parts, words.text[done:]]), words.lengths)
