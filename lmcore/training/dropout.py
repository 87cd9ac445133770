"""Dropout: each sequence of a step goes without some of the channels that the layers write.

Legend: B batch · P places where channels are dropped · D d_model.
"""

from functools import reduce as fold

import torch
from torch import Tensor

from lmcore.model.config import ModelConfig


def dropout_places(model: ModelConfig) -> int:
    """Return where channels are dropped: after the embedding, and after each block's two layers.

    Args:
      model: the configuration of the model.

    Returns:
      P = 1 + 2 L.

    Example:
      >>> dropout_places(ModelConfig(n_layers=3))
      7
    """
    return 1 + 2 * model.n_layers


def dropout_factors(
    model: ModelConfig, share: float, *, seed: int, step: Tensor, rows: Tensor
) -> Tensor:
    r"""Return what a step multiplies the channels of each of its sequences by.

    .. math:: m = \frac{[u \ge p]}{1 - p}, \qquad
       u = 2^{-32} \, \mathrm{hash}(\mathrm{seed}, \mathrm{step}, \mathrm{row}, \mathrm{place},
           \mathrm{channel})

    so that :math:`\mathrm{E}\,m = 1`, and evaluation needs no factors. A channel is dropped at
    every position of its sequence, which takes D draws a layer and sequence in the place of S D.
    Being a function of its arguments alone, without a generator whose state would be kept, it is
    the same in a run that was resumed, in micro-batches, on several ranks, recomputed, compiled,
    and on every device.

    Args:
      model: its width and its number of layers give the shape.
      share: p, at least 0 and below 1.
      seed: any integer from 0 to 2^64 - 1.
      step: 0-d, an integer: other channels are dropped in every step.
      rows: the sequences' numbers in the whole batch, ``[B]`` integers, on the device of the step.

    Returns:
      ``[B, P, D]``, float32, each 0 or :math:`1 / (1 - p)`: the ``dropout`` of
      `lmcore.model.transformer.forward`.

    Example:
      >>> model = ModelConfig(d_model=4, n_layers=1)
      >>> dropout_factors(model, 0.5, seed=0, step=torch.tensor(0), rows=torch.arange(1))
      tensor([[[2., 2., 2., 0.],
               [0., 0., 0., 0.],
               [2., 0., 0., 2.]]])

    References:
      Srivastava et al., 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting,
      section 4 (scaled in training); Gal and Ghahramani, 2016, A Theoretically Grounded Application
      of Dropout in Recurrent Neural Networks, section 4 (one draw for all positions); Salmon et
      al., 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (numbers by counting).
    """
    places = dropout_places(model)
    key = fold(_add_to_key, (seed & _WORD, seed >> 32, step), _FIRST_KEY)
    keys = _add_to_key(key, rows)[:, None]  # [B, 1]
    channels = _mix(torch.arange(1, 1 + places * model.d_model, device=rows.device))
    kept = _mix(keys ^ channels) >= round(share * 2**32)  # [B, PD]
    return kept.view(len(rows), places, model.d_model).to(torch.float32) / (1 - share)


_WORD = (1 << 32) - 1
_FIRST_KEY = 0x9E3779B9  # 2^32 / golden ratio; any number but 0, which `_mix` leaves as it is


def _add_to_key(key, word):
    """A key of one more word; integers or int64 tensors below 2^32."""
    return _mix((key ^ word) & _WORD)


def _mix(x):
    """A bijection of 32 bits, each bit of the input moving about half of the output's.

    Worked in 64 bits, where no product overflows: both multipliers are below 2^31.
    """
    x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & _WORD
    x = ((x ^ (x >> 12)) * 0x297A2D39) & _WORD
    return x ^ (x >> 15)
