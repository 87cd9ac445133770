"""The batch of a step, gathered by the device that holds the tokens.

Shapes: T tokens of the stream · B batch · S sequence.

The oracle is `lmcore.data.batch.batch_at`. What this buys: a step hands the device B numbers in
the place of 2·B·S, and no batch waits for a disk.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def signed_view(tokens: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the same bytes as signed integers: torch computes little with unsigned ones.

    Args:
      tokens: uint16 or uint32, any shape, contiguous; a memory map stays one.

    Returns:
      int16 or int32 of the same shape, a view.

    Raises:
      ValueError: another dtype.

    Example:
      >>> signed_view(np.array([1, 65_535], np.uint16))
      array([ 1, -1], dtype=int16)
    """
    if tokens.dtype not in (np.uint16, np.uint32):
        raise ValueError(f"the tokens are {tokens.dtype}: expected uint16 or uint32")
    return tokens.view(np.int16 if tokens.dtype == np.uint16 else np.int32)


def gather_windows(tokens: Tensor, starts: Tensor, context_length: int) -> tuple[Tensor, Tensor]:
    r"""Return the inputs and targets of the windows that begin at ``starts``.

    .. math:: x_{bs} = t_{\mathrm{start}_b + s}, \qquad y_{bs} = t_{\mathrm{start}_b + s + 1},
              \qquad 0 \le s < S

    Nothing here waits for the device.

    Args:
      tokens: the stream as ``signed_view`` gives it, ``[T]``, int16 or int32.
      starts: ``[B]`` int64, on the device of ``tokens``, each at most T - S - 1.
      context_length: S.

    Returns:
      ``inputs`` and ``targets``, int64 ``[B, S]`` each, in new memory.

    Example:
      >>> tokens = torch.tensor([5, 6, -1, 8], dtype=torch.int16)
      >>> gather_windows(tokens, torch.tensor([0, 1]), context_length=2)[1].tolist()
      [[6, 65535], [65535, 8]]
    """
    within = torch.arange(context_length + 1, device=tokens.device)
    window = tokens[starts[:, None] + within].to(torch.int64)  # [B, S+1]
    window = window & ((1 << (8 * tokens.element_size())) - 1)  # the sign was a bit of the number
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()
