"""Which text is in the batch of step N: a pure function of (seed, step).

Shapes: B batch · S sequence · W windows.
"""

import numpy as np
from numpy.typing import NDArray

from lmcore.data.permutation import permute


def batch_at(
    tokens: NDArray[np.integer],
    starts: NDArray[np.int64],
    context_length: int,
    batch_size: int,
    seed: int,
    step: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the inputs and targets of one step.

    Resuming needs no sampler state, and micro-batches and ranks are slices of the rows: the order
    does not depend on how many there are.

    Args:
      tokens: the token stream, 1-D, any integer dtype; of a memory map only the rows asked for are
        read.
      starts: ``[W]`` from ``window_starts``.
      context_length: S.
      batch_size: B.
      seed: decides the order, see ``permute``.
      step: counted from 0, without end: an epoch follows the other, each in its own order.

    Returns:
      ``inputs`` and ``targets``, int64 ``[B, S]`` each, in new memory; the target of a position is
      the token that follows it.

    Raises:
      ValueError: no windows, a negative step, or a batch size below 1.

    Example:
      >>> inputs, targets = batch_at(np.arange(9), np.array([0, 4]), 4, 2, seed=0, step=0)
      >>> np.unique(targets - inputs).tolist(), sorted(inputs[:, 0].tolist())
      ([1], [0, 4])
    """
    rows = starts[rows_at(len(starts), batch_size, seed, step)]
    window = tokens[rows[:, None] + np.arange(context_length + 1)].astype(np.int64)  # [B, S+1]
    return np.array(window[:, :-1]), np.array(window[:, 1:])


def rows_at(n_windows: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    r"""Return which windows are in the batch of one step.

    .. math:: p = \mathrm{step} \cdot B + b, \qquad
              \mathrm{row}_b = \pi_{\lfloor p / W \rfloor}(p \bmod W)

    where :math:`\pi_e` is the permutation of epoch e: each window is seen once an epoch, and a
    batch may hold the end of one epoch and the begin of the next.

    Args:
      n_windows: W, at least 1.
      batch_size: B, at least 1.
      seed: decides the order.
      step: counted from 0.

    Returns:
      Window numbers, int64 ``[B]``.

    Raises:
      ValueError: an argument below its least value.

    Example:
      >>> seen = [rows_at(6, 2, seed=0, step=step) for step in range(3)]
      >>> sorted(np.concatenate(seen).tolist())
      [0, 1, 2, 3, 4, 5]
    """
    if n_windows < 1 or batch_size < 1 or step < 0:
        raise ValueError(
            f"n_windows is {n_windows}, batch_size {batch_size}, step {step}: "
            "expected at least 1, 1 and 0"
        )
    positions = range(step * batch_size, (step + 1) * batch_size)
    rows = np.empty(batch_size, dtype=np.int64)
    done = 0
    while done < batch_size:  # once an epoch that the batch touches
        epoch, first = divmod(positions[done], n_windows)
        count = min(batch_size - done, n_windows - first)
        rows[done : done + count] = permute(np.arange(first, first + count), n_windows, seed, epoch)
        done += count
    return rows
