"""The innermost loops of counting and encoding, compiled by numba: an optional extra.

Each function is the twin of one on arrays, and leaves the same numbers in the same tables:
`number_words` of `fast_pretokenize.cut_gpt2` with `word_table.WordTable.find`, `lay_out` of that of
`batch_encoding`, `merge_each` of `fast_encoding.WordMerger`. One pass over the bytes does what
takes some forty passes on arrays. Only `engine.compiled` imports this module.

Compiled code is kept beside this file, or in the user's cache where that cannot be written; where
neither can, it is compiled anew in each process.
"""

from typing import Any

import numba  # pyright: ignore[reportMissingImports]
import numpy as np

from lmcore.tokenizer.fast_pretokenize import BARRIER

_BARRIER, _ONE = BARRIER[0], np.uint64(1)


def jit(function: Any) -> Any:
    """Compiled on first call, and kept where there is a place for it."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(nogil=True)(function)


@jit
def number_words(
    state, raw, eight, starts, lengths, zeros, low, high, length, short, short_shift,
    middle, middle_shift, low_factor, high_factor, number,
):  # fmt: skip
    """Write the number of each pre-token that has a key into ``number``, and 0 for barriers.

    Args:
      state: how many pre-tokens are done, how many of ``zeros`` are, the table's next number, words
        in its slots for short and for middle words. It is brought up to date; the function returns
        early at a word that has no key, or when a table is full, and goes on from there.
      raw, starts, lengths: of a `fast_pretokenize.CutText`.
      eight: the eight bytes from each byte on, as one number.
      zeros: the pre-tokens that hold a zero byte.
      low, high, length, short, short_shift, middle, middle_shift: the table's.
      low_factor, high_factor: of the hash.
    """
    i, n_zeros, next_number, n_short, n_middle = state
    short_mask, middle_mask = np.uint64(len(short) - 1), np.uint64(len(middle) - 1)
    while i < len(starts):
        start, n_bytes = starts[i], lengths[i]
        if n_zeros < len(zeros) and zeros[n_zeros] == i:
            n_zeros += 1
            break
        if n_bytes <= 8:
            my_low = eight[start] << np.uint64(64 - 8 * n_bytes)
            home = (my_low * low_factor) >> short_shift
            there = short[home]
            while low[there] != my_low:
                if there == 0:
                    break
                home = (home + _ONE) & short_mask
                there = short[home]
            if there == 0 and raw[start] != _BARRIER:
                if 2 * (n_short + 1) > len(short) or next_number >= len(low):
                    break
                there = np.uint32(next_number)
                low[there], length[there], short[home] = my_low, n_bytes, there
                next_number += 1
                n_short += 1
        elif n_bytes <= 16 and raw[start] != _BARRIER:
            my_low = eight[start]
            my_high = eight[start + np.uint64(8)] << np.uint64(128 - 8 * n_bytes)
            home = (my_low * low_factor + my_high * high_factor) >> middle_shift
            there = middle[home]
            while there and (low[there] != my_low or high[there] != my_high):
                home = (home + _ONE) & middle_mask
                there = middle[home]
            if there == 0:
                if 2 * (n_middle + 1) > len(middle) or next_number >= len(low):
                    break
                there = np.uint32(next_number)
                low[there], high[there], length[there] = my_low, my_high, n_bytes
                middle[home] = there
                next_number += 1
                n_middle += 1
        elif raw[start] == _BARRIER:
            there = np.uint32(0)
        else:
            break
        number[i] = there
        i += 1
    state[0], state[1], state[2], state[3], state[4] = i, n_zeros, next_number, n_short, n_middle


@jit
def count_numbers(number, times):
    """Add one to the count of each number."""
    for i in range(len(number)):
        times[number[i]] += 1


@jit
def lay_out(number, text_ends, one, not_one, first, count, word_ids, ids, ends):
    """Write the ids of each pre-token into ``ids``, and where each text ends into ``ends``.

    Args:
      number: of each pre-token.
      text_ends: how many pre-tokens stand before the end of each text.
      one: by number, the id of a word that is one token; otherwise ``not_one`` or more.
      first, count: by number, where the ids of other words begin in ``word_ids``, how many.
      ids: has room for all.

    Returns:
      how many ids there are in all.
    """
    n = begin = 0
    for text in range(len(text_ends)):
        for place in range(begin, text_ends[text]):
            word = number[place]
            id = one[word]
            if id < not_one:
                ids[n] = id
                n += 1
            else:
                start = first[word]
                for step in range(count[word]):
                    ids[n] = word_ids[start + step]
                    n += 1
        begin = text_ends[text]
        ends[text] = n
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
