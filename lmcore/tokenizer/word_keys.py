"""Words as numbers, so that equal words are found by sorting numbers.

A word of up to 15 bytes is two 64-bit numbers: ``low`` holds its bytes 0 to 7, ``high`` its bytes
8 to 14 and, in the top byte, its length. Different words have different pairs of numbers, so
nothing is left to chance as with a hash. In a word of up to 7 bytes ``low`` has room for the
length, and one sort of one number does (six in seven words of English).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.fast_pretokenize import CutText

SHORT, MIDDLE = 7, 15  # the longest word, in bytes, that is one number, or two

_LENGTH = np.uint64(0xFF << 56)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


class WordKeys(NamedTuple):
    """Distinct words of up to 15 bytes, and how often each was seen; sorted by high, then low."""

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    times: NDArray[np.int64]

    def words(self) -> Iterator[bytes]:
        """The words themselves, in order."""
        rows = np.stack((self.low, self.high), axis=1).astype("<u8", copy=False).tobytes()
        return (rows[i : i + rows[i + MIDDLE]] for i in range(0, len(rows), 16))


# The place of each given word among the distinct ones.
Inverse = NDArray[np.int64]


def is_short(cut: CutText) -> NDArray[np.bool_]:
    return cut.lengths <= SHORT


def is_middle(cut: CutText) -> NDArray[np.bool_]:
    return (cut.lengths > SHORT) & (cut.lengths <= MIDDLE)


def is_long(cut: CutText) -> NDArray[np.bool_]:
    return cut.lengths > MIDDLE


def words_of(cut: CutText) -> Iterator[bytes]:
    """The words as bytes, one by one."""
    raw = cut.raw.tobytes() if len(cut.starts) else b""
    ends = (cut.starts + cut.lengths).tolist()
    return (raw[start:end] for start, end in zip(cut.starts.tolist(), ends, strict=True))


def counted_short(cut: CutText) -> WordKeys:
    """The distinct words of up to 7 bytes: sorting numbers alone is several times faster."""
    return _runs(np.sort(_short_keys(cut)))


def distinct_short(cut: CutText) -> tuple[WordKeys, Inverse]:
    """The distinct words of up to 7 bytes, and where each given one went."""
    key = _short_keys(cut)
    order = np.argsort(key)
    keys = _runs(key[order])
    return keys, _inverse(order, keys.times)


def _short_keys(cut: CutText) -> NDArray[np.uint64]:
    return _eight_bytes(cut.raw, cut.starts, cut.lengths) | _on_top(cut.lengths)


def _runs(key: NDArray[np.uint64]) -> WordKeys:
    """The distinct ones of sorted short keys."""
    starts = _run_starts(key[1:] != key[:-1], len(key))
    count = np.diff(starts, append=len(key))
    return WordKeys(key[starts] & ~_LENGTH, key[starts] & _LENGTH, count)


def distinct_middle(cut: CutText) -> tuple[WordKeys, Inverse]:
    """The distinct words of 8 to 15 bytes, and where each given one went."""
    low = _eight_bytes(cut.raw, cut.starts, np.full_like(cut.lengths, 8))
    high = _eight_bytes(cut.raw, cut.starts + 8, cut.lengths - 8) | _on_top(cut.lengths)
    return merged([WordKeys(low, high, np.ones(len(low), np.int64))])


def merged(parts: list[WordKeys]) -> tuple[WordKeys, Inverse]:
    """The distinct words of all parts, their counts added, and where each given one went."""
    low, high, count = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((low, high))
    low, high, count = low[order], high[order], count[order]
    starts = _run_starts((low[1:] != low[:-1]) | (high[1:] != high[:-1]), len(low))
    sums = np.add.reduceat(count, starts) if len(low) else count
    inverse = _inverse(order, np.diff(starts, append=len(low)))
    return WordKeys(low[starts], high[starts], sums), inverse


def _inverse(order: NDArray[np.int64], run_lengths: NDArray[np.int64]) -> Inverse:
    """From the order that sorted the values, the run of equals that each value went to."""
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.repeat(np.arange(len(run_lengths)), run_lengths)
    return inverse


def _run_starts(differs: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Where each run of equals begins, among ``n`` sorted values."""
    return np.concatenate(([0], np.flatnonzero(differs) + 1)) if n else np.zeros(0, np.int64)


def _eight_bytes(
    raw: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The first ``lengths`` bytes, at most 8, from each start, as a little-endian number."""
    at_any_byte = np.ndarray(len(raw) - 7, "<u8", raw, strides=(1,))
    return at_any_byte[starts] & _FIRST_BYTES[lengths]


def _on_top(lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    return lengths.astype(np.uint64) << np.uint64(56)
