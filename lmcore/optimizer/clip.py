"""Clipping by the global norm: one bad batch must not undo what a thousand good ones did."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lmcore.params import Params, global_norm, map_params

_EPS = 1e-6  # the assignment's and torch.nn.utils.clip_grad_norm_'s: no division by zero


def clip_by_global_norm(
    grads: Mapping[str, Tensor], max_norm: float, *, in_place: bool = False
) -> tuple[Params, Tensor]:
    r"""Scale all gradients together so that their joint norm is at most ``max_norm``.

    .. math::
       g \leftarrow g \cdot \begin{cases} 1 & \lVert g \rVert_2 < M \\
         M / (\lVert g \rVert_2 + 10^{-6}) & \text{otherwise} \end{cases}

    The norm is taken over every entry of every tensor, so that the direction of the whole gradient
    is kept. A NaN or an infinity in any gradient makes the norm NaN or infinite: one check of the
    norm is a check of all gradients.

    Args:
      grads: gradients by name, any shapes, floating dtypes.
      max_norm: M, at least 0; ``math.inf`` measures and clips nothing.
      in_place: write into the tensors of ``grads``, which the caller gives up; the same bits.

    Returns:
      The scaled gradients (new tensors unless ``in_place``, same names, shapes and dtypes), and the
      norm before clipping: a 0-d tensor, float64 where a gradient is, float32 otherwise.

    Example:
      >>> grads, norm = clip_by_global_norm({"w": torch.tensor([3.0, 4.0])}, 1.0)
      >>> grads["w"], norm
      (tensor([0.6000, 0.8000]), tensor(5.))

    References:
      Pascanu, Mikolov and Bengio, 2013, On the difficulty of training recurrent neural networks,
      algorithm 1.
    """
    norm = global_norm(grads)
    scale = torch.where(norm < max_norm, 1.0, max_norm / (norm + _EPS))
    multiply = torch.Tensor.mul_ if in_place else torch.mul
    return map_params(lambda grad: multiply(grad, scale.to(grad.dtype)), grads), norm
