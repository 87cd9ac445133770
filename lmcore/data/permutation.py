"""A shuffle that needs no memory: where each position of an epoch goes is computed, not stored.

A keyed Feistel network permutes the integers below a power of two; a result outside the range is
sent through again until it falls inside (cycle walking). Any element can be asked for alone.
"""

import numpy as np
from numpy.typing import NDArray

PERMUTATION_VERSION = 1
"""Raised whenever the order changes for any (n, seed, epoch); part of the key of a run."""

# Half-rounds. Eight are four whole ones, which the proof asks for; ours may be one bit wide.
_ROUNDS = 12
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: SplitMix64's increment


def permute(indices: NDArray[np.integer], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    r"""Return where each index goes in the shuffle of one epoch.

    With an index split into a left and a right part of its bits, half-rounds alternate:

    .. math:: L \leftarrow L \oplus (F_{k_{2j}}(R) \bmod 2^{|L|}), \qquad
              R \leftarrow R \oplus (F_{k_{2j+1}}(L) \bmod 2^{|R|})

    Each undoes itself, so that all of them together are a bijection of the :math:`2^b` integers of
    b bits, whatever F is; b is the least with :math:`2^b \ge n`. Walking on from results of n or
    more until one is below n keeps it a bijection, and takes less than two evaluations on average.

    Args:
      indices: integers in [0, n), any shape, in any order, with or without repeats.
      n: size of the permuted range, at least 1.
      seed: any integer; equal modulo 2^64 is equal.
      epoch: any integer; each epoch has an order of its own.

    Returns:
      int64 of the same shape. Over all indices below n, each value below n occurs once. The same on
      every platform and for every grouping of the indices.

    Raises:
      ValueError: n below 1, or an index outside [0, n).

    Example:
      >>> permute(np.arange(8), 8, seed=0, epoch=0).tolist()
      [6, 0, 3, 5, 2, 4, 7, 1]

    References:
      Luby and Rackoff, 1988, How to construct pseudorandom permutations; Black and Rogaway, 2002,
      Ciphers with arbitrary finite domains (cycle walking); Steele, Lea and Flood, 2014,
      Fast splittable pseudorandom number generators (the mixing function).
    """
    if n < 1:
        raise ValueError(f"n is {n}: a permutation needs at least one element")
    values = np.asarray(indices).astype(np.int64)
    if values.size and not (values.min() >= 0 and values.max() < n):
        raise ValueError(f"indices run from {values.min()} to {values.max()}: expected [0, {n})")
    bits = (n - 1).bit_length()
    keys = _round_keys(seed, epoch)
    walking = _feistel(values.reshape(-1).astype(np.uint64), bits, keys)
    outside = np.flatnonzero(walking >= n)
    while outside.size:
        walking[outside] = _feistel(walking[outside], bits, keys)
        outside = outside[walking[outside] >= n]
    return walking.astype(np.int64).reshape(values.shape)


def _round_keys(seed: int, epoch: int) -> list[int]:
    """One 64-bit key a half-round, from version, seed and epoch, by Python integers."""
    state = 0
    for word in (PERMUTATION_VERSION, seed, epoch):
        state = _mix_int((state ^ word) + _GOLDEN)
    return [_mix_int(state + _GOLDEN * (k + 1)) for k in range(_ROUNDS)]


def _feistel(values: NDArray[np.uint64], bits: int, keys: list[int]) -> NDArray[np.uint64]:
    """Permute the integers of ``bits`` bits."""
    right_bits = np.uint64(bits - bits // 2)
    left_mask = np.uint64((1 << (bits // 2)) - 1)
    right_mask = np.uint64((1 << int(right_bits)) - 1)
    left, right = values >> right_bits, values & right_mask
    for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ (_mix(right ^ np.uint64(left_key)) & left_mask)
        right = right ^ (_mix(left ^ np.uint64(right_key)) & right_mask)
    return (left << right_bits) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: each bit of the input moves about half of the output's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix_int(x: int) -> int:
    """``_mix`` of a Python integer, taken modulo 2^64."""
    return int(_mix(np.array([x & _MASK], dtype=np.uint64))[0])
