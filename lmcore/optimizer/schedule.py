"""The learning rate as a function of the step: linear warm-up, cosine decay, then a floor."""

import math
from typing import overload

import torch
from torch import Tensor


@overload
def cosine_schedule(
    step: int, max_lr: float, min_lr: float, warmup_steps: int, cosine_steps: int
) -> float: ...
@overload
def cosine_schedule(
    step: Tensor, max_lr: float, min_lr: float, warmup_steps: int, cosine_steps: int
) -> Tensor: ...
def cosine_schedule(
    step: int | Tensor, max_lr: float, min_lr: float, warmup_steps: int, cosine_steps: int
) -> float | Tensor:
    r"""Return the learning rate of one step.

    .. math::
       \alpha_t = \begin{cases}
         \frac{t}{T_w}\,\alpha_{max} & t < T_w \\
         \alpha_{min} + \tfrac{1}{2}\left(1 + \cos\left(\frac{t - T_w}{T_c - T_w}\,\pi\right)\right)
           (\alpha_{max} - \alpha_{min}) & T_w \le t \le T_c \\
         \alpha_{min} & t > T_c
       \end{cases}

    Args:
      step: t, counted from 0. An int gives a float, evaluated in the order of the formula. A 0-d
        integer tensor gives a 0-d tensor on its device, without a branch on its value, so that a
        compiled step does not recompile when the step changes: float64, equal to the float within
        two units in the last place; float32 on MPS, which has no float64.
      max_lr: :math:`\alpha_{max}`, reached at ``warmup_steps``.
      min_lr: :math:`\alpha_{min}`, kept after ``cosine_steps``.
      warmup_steps: :math:`T_w`; 0 means no warm-up. The rate of step 0 is 0 where it is positive.
      cosine_steps: :math:`T_c`, the step (not a number of steps after the warm-up) at which
        ``min_lr`` is reached.

    Returns:
      The learning rate: a float for an int, a 0-d tensor for a tensor.

    Example:
      >>> [round(cosine_schedule(t, 1.0, 0.1, 2, 6), 4) for t in range(8)]
      [0.0, 0.5, 1.0, 0.8682, 0.55, 0.2318, 0.1, 0.1]

    References:
      Loshchilov and Hutter, 2017, SGDR, eq. 5, with a linear warm-up before the cosine; Touvron et
      al., 2023, LLaMA, section 2.3.
    """
    if isinstance(step, Tensor):
        return _cosine_schedule_tensor(step, max_lr, min_lr, warmup_steps, cosine_steps)
    if step < warmup_steps:
        return step / warmup_steps * max_lr
    if step > cosine_steps:
        return min_lr
    # At least 1: a schedule that ends where its warm-up does has one step here, at max_lr.
    angle = (step - warmup_steps) / max(cosine_steps - warmup_steps, 1) * math.pi
    return min_lr + 0.5 * (1 + math.cos(angle)) * (max_lr - min_lr)


def _cosine_schedule_tensor(
    step: Tensor, max_lr: float, min_lr: float, warmup_steps: int, cosine_steps: int
) -> Tensor:
    """Evaluate every piece and select: the same values, whatever the step, from one graph."""
    t = step.to(scalar_dtype(step.device))
    warm = t / max(warmup_steps, 1) * max_lr
    progress = (t - warmup_steps) / max(cosine_steps - warmup_steps, 1)
    cosine = min_lr + 0.5 * (1 + torch.cos(progress * math.pi)) * (max_lr - min_lr)
    after = torch.where(step > cosine_steps, min_lr, cosine)
    return torch.where(step < warmup_steps, warm, after)


def scalar_dtype(device: torch.device) -> torch.dtype:
    """Return the widest dtype for a 0-d number of the update: float64, float32 on MPS."""
    return torch.float32 if device.type == "mps" else torch.float64
