"""The innermost loops of counting and encoding, compiled by numba: an optional extra.

Each function is the twin of one on arrays, and leaves the same numbers in the same tables:
`number_words` of `fast_pretokenize.cut_gpt2` with `word_table.WordTable.find`, `lay_out` of the end
of `batch_encoding`, `merge_each` of `fast_encoding.WordMerger`. One pass over the bytes does what
takes some forty passes on arrays. Only `engine.compiled` imports this module.

Compiled code is kept beside this file, or in the user's cache where that cannot be written; where
neither can, it is compiled anew in each process.
"""

from typing import Any

import numba  # pyright: ignore[reportMissingImports]
import numpy as np

from lmcore.tokenizer.fast_pretokenize import BARRIER, END, SPACE, WHITE

_APOSTROPHE, _SPACE_BYTE, _BARRIER = ord("'"), ord(" "), BARRIER[0]
_S, _D, _M, _T, _L, _V, _R, _E = (ord(letter) for letter in "sdmtlvre")
_ONE, _SEVEN, _TOP = np.uint64(1), np.uint64(7), np.uint64(56)
_EVERY_BYTE = 0x0101010101010101
_LOWER_CASE = np.uint64(0x20 * _EVERY_BYTE)
_LOW_BITS, _TOP_BITS = np.uint64(0x7F * _EVERY_BYTE), np.uint64(0x80 * _EVERY_BYTE)
_ABOVE_Z = np.uint64((0x7F - ord("z")) * _EVERY_BYTE)
_FROM_A = np.uint64((0x80 - ord("a")) * _EVERY_BYTE)
_BYTE_NUMBERS = np.uint64(0x0001020304050607)


def jit(function: Any) -> Any:
    """Compiled on first call, and kept where there is a place for it."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(nogil=True)(function)


@jit
def _kind_and_width(raw, place, kinds):
    """The class of the character at ``place``, and its bytes."""
    byte = raw[place]
    if byte < 0x80:
        return kinds[byte], 1
    first = np.int64(byte)
    if first < 0xE0:
        return kinds[((first & 0x1F) << 6) | (raw[place + 1] & 0x3F)], 2
    if first < 0xF0:
        code = ((first & 0x0F) << 12) | (np.int64(raw[place + 1] & 0x3F) << 6)
        return kinds[code | (raw[place + 2] & 0x3F)], 3
    if first == _BARRIER:
        return np.uint8(END), 1
    code = ((first & 0x07) << 18) | (np.int64(raw[place + 1] & 0x3F) << 12)
    code |= np.int64(raw[place + 2] & 0x3F) << 6
    return kinds[code | (raw[place + 3] & 0x3F)], 4


@jit
def _end_of_contraction(raw, place):
    """Where the contraction that the apostrophe at ``place`` begins ends; 0 if it begins none."""
    first, second = raw[place + 1], raw[place + 2]
    if first in (_S, _D, _M, _T):
        return place + 2
    if (first == _L and second == _L) or ((first in (_V, _R)) and second == _E):
        return place + 3
    return 0


@jit
def _end_of_pre_token(raw, place, kinds):
    """Where the pre-token that begins at ``place`` ends."""
    if raw[place] == _APOSTROPHE:
        end = _end_of_contraction(raw, place)
        if end:
            return end
    kind, width = _kind_and_width(raw, place, kinds)
    place += width
    if kind == SPACE:
        following, width = _kind_and_width(raw, place, kinds)
        if following < WHITE:  # the space goes with it
            kind = following
            place += width
    if kind < WHITE:
        following, width = _kind_and_width(raw, place, kinds)
        while following == kind:
            place += width
            following, width = _kind_and_width(raw, place, kinds)
        return place
    last = 0  # where the last character of a run of several begins
    following, width = _kind_and_width(raw, place, kinds)
    while following in (WHITE, SPACE):
        last = place
        place += width
        following, width = _kind_and_width(raw, place, kinds)
    return last if last and following < WHITE else place


@jit
def _leading_letters(eight):
    """How many of eight bytes, from the first on, are ASCII letters, without a branch.

    Adding to all bytes at once sets the top bit of each that lies above a bound.
    """
    small = eight | _LOWER_CASE
    # The top bits are cleared first, so that no byte carries into the next.
    above_z = (small & _LOW_BITS) + _ABOVE_Z
    from_a = (small & _LOW_BITS) + _FROM_A
    other = ~(from_a & ~above_z & ~eight) & _TOP_BITS
    if other == 0:
        return 8
    # The lowest bit that is set, 2 ** (8 k + 7), moves the number k into the top byte.
    return np.int64((((other & (~other + _ONE)) >> _SEVEN) * _BYTE_NUMBERS) >> _TOP)


@jit
def number_words(
    raw, eight, kinds, state, low, high, slot, shift, low_factor, high_factor,
    low_mask, high_mask, number, first, long_place, long_start, long_end,
):  # fmt: skip
    """Cut the texts, and write the number of each pre-token into ``number``.

    Args:
      raw: the bytes, as `fast_pretokenize.side_by_side` lays them out.
      eight: the eight bytes from each byte on, as one number.
      kinds: the class of each code point.
      state: place in ``raw``, pre-tokens so far, texts so far, words in the table, long words
        waiting. It is brought up to date; the function returns early when the table is full, and
        goes on from there.
      low, high, slot, shift, low_factor, high_factor, low_mask, high_mask: the table's.
      number: gets a number for each pre-token; nothing for a long one.
      first: gets the number of the first pre-token of each text.
      long_place, long_start, long_end: get the long ones: their place among the pre-tokens, and
        where they stand in ``raw``. Returns early when they are full.
    """
    place, n, text, n_words, n_long = state
    mask = len(slot) - 1
    end_of_all = len(raw) - 16
    while place < end_of_all:
        if raw[place] == _BARRIER:
            text += 1
            first[text] = n
            place += 1
            continue
        if 4 * (n_words + 1) > len(slot) or n_words + 1 >= len(low) or n_long == len(long_place):
            break
        # Five in six pre-tokens: ASCII letters, perhaps after a space, and no other letter.
        end = place + 1 if raw[place] == _SPACE_BYTE else place
        n_letters = _leading_letters(eight[end])
        end += n_letters
        while n_letters == 8:
            n_letters = _leading_letters(eight[end])
            end += n_letters
        if end < place + 2 or raw[end] >= 0x80:
            end = _end_of_pre_token(raw, place, kinds)
        length = end - place
        if length > 15:
            long_place[n_long], long_start[n_long], long_end[n_long] = n, place, end
            n_long += 1
        else:
            my_low = eight[place] & low_mask[length]
            my_high = (eight[place + 8] & high_mask[length]) | (np.uint64(length) << _TOP)
            home = np.int64((my_low * low_factor + my_high * high_factor) >> shift)
            there = slot[home]
            while there >= 0 and (low[there] != my_low or high[there] != my_high):
                home = (home + 1) & mask
                there = slot[home]
            if there < 0:
                there = n_words
                slot[home] = there
                low[there], high[there] = my_low, my_high
                n_words += 1
            number[n] = there
        n += 1
        place = end
    state[0], state[1], state[2], state[3], state[4] = place, n, text, n_words, n_long


@jit
def count_numbers(number, times):
    """Add one to the count of each number."""
    for i in range(len(number)):
        times[number[i]] += 1


@jit
def lay_out(number, where, word_ids, ids, first, ends):
    """Write the ids of each pre-token into ``ids``, and where each text ends into ``ends``."""
    n = 0
    text = 1
    for i in range(len(number)):
        while first[text] == i:
            ends[text] = n
            text += 1
        word = number[i]
        start = where[word, 0]
        for step in range(where[word, 1]):
            ids[n] = word_ids[start + step]
            n += 1
    while text < len(first):
        ends[text] = n
        text += 1
    return n


@jit
def merge_each(ids, lengths, left, right, rank, none, shift, low_factor, high_factor, made):
    """Merge words one after the other, in place; ``lengths`` becomes the number of their ids.

    Args:
      ids: the words, as the ids of their bytes; their ids come to lie at the front.
      lengths: bytes of each word.
      left, right, rank, none, shift, low_factor, high_factor: the table of pairs.
      made: the id that each rank makes.

    Returns:
      how many ids there are in all.
    """
    ranks = np.empty(64, np.int64)
    mask = len(rank) - 1
    read = write = 0
    for word in range(len(lengths)):
        n = lengths[word]
        start = write
        for i in range(n):
            ids[start + i] = ids[read + i]
        read += n
        while n > 1:
            best = none
            for i in range(n - 1):
                a, b = ids[start + i], ids[start + i + 1]
                slot = np.int64((np.uint64(a) * low_factor + np.uint64(b) * high_factor) >> shift)
                found = rank[slot]
                while found < none and (left[slot] != a or right[slot] != b):
                    slot = (slot + 1) & mask
                    found = rank[slot]
                ranks[i] = found
                best = min(best, found)
            if best == none:
                break
            kept = i = 0
            while i < n:
                if i < n - 1 and ranks[i] == best:
                    ids[start + kept] = made[best]
                    i += 2
                else:
                    ids[start + kept] = ids[start + i]
                    i += 1
                kept += 1
            n = kept
        lengths[word] = n
        write += n
    return write
