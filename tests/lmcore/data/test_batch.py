"""The batch of step N as a function of (seed, step)."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.data.batch import batch_at, rows_at
from lmcore.data.windows import window_starts


@settings(deadline=None)
@given(
    n_windows=st.integers(1, 60),
    batch_size=st.integers(1, 25),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.integers(1, 4),
)
def test_each_window_once_an_epoch(n_windows, batch_size, seed, epochs):
    """The endless sequence of rows falls into epochs that hold each window once."""
    steps = -(-epochs * n_windows // batch_size)
    rows = np.concatenate([rows_at(n_windows, batch_size, seed, step) for step in range(steps)])
    for epoch in range(epochs):
        part = rows[epoch * n_windows : (epoch + 1) * n_windows]
        assert sorted(part.tolist()) == list(range(n_windows))


@settings(deadline=None)
@given(n_windows=st.integers(1, 60), parts=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_sequence_does_not_depend_on_the_batch_size(n_windows, parts, seed):
    """Many small steps see what one large step sees, in the same order."""
    large = rows_at(n_windows, 4 * parts, seed, 3)
    small = [rows_at(n_windows, 4, seed, 3 * parts + k) for k in range(parts)]
    assert large.tolist() == np.concatenate(small).tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    """The second epoch and another seed are shuffled differently."""
    first, second = rows_at(50, 50, 0, 0), rows_at(50, 50, 0, 1)
    assert first.tolist() != second.tolist()
    assert first.tolist() != rows_at(50, 50, 1, 0).tolist()


def test_known_rows():
    """The rows of a few steps, pinned when version 1 of the permutation was made."""
    assert [rows_at(10, 4, 0, step).tolist() for step in range(3)] == [
        [8, 7, 0, 3],
        [2, 6, 4, 9],
        [5, 1, 2, 9],
    ]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_rows_are_the_windows_of_the_stream(dtype):
    """Inputs are the window without its last token, targets without its first, as int64."""
    tokens = np.random.default_rng(0).integers(0, 60_000, 101).astype(dtype)
    starts = window_starts(np.array([0, 40, 100]), 8, "document")
    inputs, targets = batch_at(tokens, starts, 8, 5, seed=3, step=2)
    assert inputs.dtype == targets.dtype == np.int64
    for row, start in enumerate(starts[rows_at(len(starts), 5, 3, 2)]):
        assert inputs[row].tolist() == tokens[start : start + 8].tolist()
        assert targets[row].tolist() == tokens[start + 1 : start + 9].tolist()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_result_is_new_memory(tmp_path, batch_size):
    """From a read-only memory map come plain arrays that the caller may write to."""
    np.arange(41, dtype=np.uint16).tofile(tmp_path / "tokens")
    tokens = np.memmap(tmp_path / "tokens", dtype=np.uint16, mode="r")
    inputs, targets = batch_at(tokens, np.arange(0, 40, 8), 8, batch_size, seed=0, step=0)
    assert type(inputs) is type(targets) is np.ndarray
    assert inputs.flags.c_contiguous
    assert targets.flags.c_contiguous
    inputs[:] = 0
    assert (targets > 0).all()
    assert tokens.tolist() == list(range(41))


def test_only_the_rows_asked_for_are_read():
    """The stream is indexed once, with the batch's positions: a memory map is never read whole."""

    class Watched:
        asked = 0

        def __getitem__(self, index):
            self.asked += np.asarray(index).size
            return np.zeros(np.asarray(index).shape, dtype=np.uint16)

    tokens = Watched()
    batch_at(tokens, np.arange(0, 10**9, 10**6), 16, 4, seed=0, step=0)  # type: ignore[arg-type]
    assert tokens.asked == 4 * 17


@pytest.mark.parametrize("bad", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_what_has_no_batch_is_refused(bad):
    """No windows, no rows and negative steps are errors."""
    n_windows, batch_size, step = bad
    with pytest.raises(ValueError, match="expected at least"):
        rows_at(n_windows, batch_size, 0, step)
