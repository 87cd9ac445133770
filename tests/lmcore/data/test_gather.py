"""Batches gathered by a device are those of `batch_at`."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from lmcore.data.batch import batch_at, rows_at
from lmcore.data.gather import gather_windows, signed_view


@given(
    n_tokens=st.integers(12, 400),
    context_length=st.integers(1, 10),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
    step=st.integers(0, 50),
    wide=st.booleans(),
)
def test_gathered_batch_is_that_of_numpy(
    n_tokens: int, context_length: int, batch_size: int, seed: int, step: int, wide: bool
) -> None:
    """Inputs and targets equal `batch_at`'s for any step, ids beyond the sign bit included."""
    limit = 1 << (32 if wide else 16)
    tokens = np.random.default_rng(seed).integers(0, limit, n_tokens)
    tokens = tokens.astype(np.uint32 if wide else np.uint16)
    starts = np.arange(0, n_tokens - context_length, context_length)
    expected = batch_at(tokens, starts, context_length, batch_size, seed, step)

    rows = torch.from_numpy(starts[rows_at(len(starts), batch_size, seed, step)])
    found = gather_windows(torch.from_numpy(signed_view(tokens)), rows, context_length)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.int64
        assert ours.is_contiguous()
        assert np.array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_view_shares_the_bytes(dtype: type) -> None:
    """The signed view copies nothing and loses nothing."""
    tokens = np.array([0, 1, np.iinfo(dtype).max], dtype)
    viewed = signed_view(tokens)
    assert np.shares_memory(viewed, tokens)
    assert viewed.view(dtype).tolist() == tokens.tolist()


def test_other_dtypes_are_refused() -> None:
    """What is no token dtype is an error: a view of it would be other numbers."""
    with pytest.raises(ValueError, match="int64: expected uint16 or uint32"):
        signed_view(np.arange(3))
