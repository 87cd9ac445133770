"""Arrays in order: sorting with places, runs of equals, and arrays that grow.

Training merges a batch in many calls on short arrays, on which numpy's own `flatnonzero` and `diff`
take most of their time to see what they were given.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def sorted_with_places(key: Ids) -> tuple[Ids, Ids]:
    """``key`` in order, and where each of it was, those of equals ascending.

    Key and place are sorted as one number: numpy sorts numbers with vector instructions, several
    times as fast as `argsort` finds a stable order.
    """
    n_bits = len(key).bit_length()
    both = (key << n_bits) | np.arange(len(key))
    both.sort()
    return both >> n_bits, both & ((1 << n_bits) - 1)


def where_true(chosen: NDArray[np.bool_]) -> Ids:
    """The places that are chosen."""
    return chosen.nonzero()[0]


def run_lengths(starts: Ids, end: int) -> Ids:
    """How long each run is; the last one ends at ``end``."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = end - starts[-1:]
    return lengths


def run_starts(sorted_values: NDArray) -> Ids:
    """Where each run of equals begins."""
    begins = np.ones(len(sorted_values), bool)
    np.not_equal(sorted_values[1:], sorted_values[:-1], out=begins[1:])
    return where_true(begins)


def sums_of_runs(values: NDArray[np.int64], starts: Ids) -> NDArray[np.int64]:
    """The sum of each run of values."""
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0, np.int64)


def with_room(array: NDArray, n: int) -> NDArray:
    """``array``, or a copy with room for ``n`` values and as many again."""
    if n <= len(array):
        return array
    larger = np.zeros(2 * n, array.dtype)
    larger[: len(array)] = array
    return larger
