"""The keyed permutation: a bijection, stable for ever, and well mixed."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.data.permutation import PERMUTATION_VERSION, permute

ANY = st.integers(-(2**70), 2**70)


@settings(deadline=None)
@given(n=st.integers(1, 700), seed=ANY, epoch=ANY)
def test_is_a_permutation(n, seed, epoch):
    """For any size, seed and epoch each value occurs once."""
    assert sorted(permute(np.arange(n), n, seed, epoch).tolist()) == list(range(n))


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 2**62), seed=ANY, epoch=st.integers(0, 9))
def test_does_not_depend_on_how_it_is_asked(data, n, seed, epoch):
    """One by one, together, in any order, dtype or shape: an index always goes to one place."""
    indices = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
    together = permute(np.array(indices), n, seed, epoch)
    assert ((together >= 0) & (together < n)).all()
    assert together.dtype == np.int64
    alone = [permute(np.array(i, dtype=np.uint64), n, seed, epoch).item() for i in indices]
    assert together.tolist() == alone
    folded = permute(np.array([indices, indices[::-1]]), n, seed, epoch)
    assert folded.tolist() == [alone, alone[::-1]]


# Computed when version 1 was made. They must never change under the same version: the order of the
# batches, and with it every weight, hangs on them.
KNOWN = [
    ((8, 0, 0), range(8), [6, 0, 3, 5, 2, 4, 7, 1]),
    ((10, 0, 0), range(10), [8, 7, 0, 3, 2, 6, 4, 9, 5, 1]),
    ((10, 0, 1), range(10), [2, 9, 0, 4, 1, 5, 7, 8, 6, 3]),
    ((5, -1, 0), range(5), [2, 0, 1, 3, 4]),
    (
        (10**12, 7, 3),
        [0, 1, 2, 999_999_999_999],
        [630183463893, 94257390147, 299300567980, 67216935207],
    ),
    ((2**63 - 1, 0, 0), [0, 2**62], [8820459454071995745, 1203119788664849716]),
]


@pytest.mark.parametrize(("key", "indices", "expected"), KNOWN)
def test_known_answers_of_version_1(key, indices, expected):
    """The order of version 1 is the same on every machine and for ever."""
    assert PERMUTATION_VERSION == 1
    assert permute(np.array(indices), *key).tolist() == expected


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_of_a_few_is_about_equally_likely(n):
    """Over seeds all n! orders of n elements occur, each within five standard errors of its share.

    The seeds are fixed, so this cannot fail by chance.
    """
    orders = [tuple(permute(np.arange(n), n, seed, 0).tolist()) for seed in range(1200)]
    counts = np.array([orders.count(order) for order in set(orders)])
    share = {2: 600, 3: 200, 4: 50}[n]
    assert len(counts) * share == 1200
    assert (abs(counts - share) < 5 * np.sqrt(share)).all()


@pytest.mark.parametrize("n", [100, 1000, 4097])
def test_neighbours_are_strangers(n):
    """Neither neighbours, nor the same index in the next epoch or seed, are correlated."""
    order = permute(np.arange(n), n, 5, 0)
    others = [np.arange(n), np.roll(order, 1), permute(np.arange(n), n, 5, 1)]
    others.append(permute(np.arange(n), n, 6, 0))
    for other in others:
        # 1/sqrt(n) is the standard error of a correlation of independent orders
        assert abs(np.corrcoef(order, other)[0, 1]) < 4 / np.sqrt(n)


def test_what_cannot_be_permuted_is_refused():
    """An index outside the range, or an empty range, is an error and not a wrong answer."""
    for indices in ([5], [-1]):
        with pytest.raises(ValueError, match=r"expected \[0, 5\)"):
            permute(np.array(indices), 5, 0, 0)
    with pytest.raises(ValueError, match="n is 0"):
        permute(np.array([], dtype=np.int64), 0, 0, 0)
    assert permute(np.array([], dtype=np.int64), 5, 0, 0).shape == (0,)
