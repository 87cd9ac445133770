"""What to do about a step whose loss or gradient is not finite: skip it, count it, scale down.

Every decision is a select between tensors, so that one compiled graph serves good and bad steps and
nothing waits for the device. Only the loop that calls the step looks at the counters, and stops.
"""

from typing import NamedTuple

import torch
from torch import Tensor

INITIAL_SCALE = 2.0**16
MAX_SCALE = 2.0**24
GROWTH_INTERVAL = 2000


class Recovery(NamedTuple):
    """The loss scale and the counts of bad steps, all 0-d tensors on the parameters' device.

    Attributes:
      loss_scale: float32, what the loss is multiplied by before the backward pass; 1 unless the
        precision is float16.
      good_steps: int64, finite steps since the scale last changed.
      bad_steps: int64, bad steps in a row, up to now.
      skipped: int64, all steps that left the parameters as they were.
    """

    loss_scale: Tensor
    good_steps: Tensor
    bad_steps: Tensor
    skipped: Tensor


def init_recovery(*, scaled: bool, device: torch.device | str = "cpu") -> Recovery:
    """Return the state before the first step; ``scaled`` starts the loss scale at 65,536, not 1.

    Example:
      >>> init_recovery(scaled=True).loss_scale
      tensor(65536.)
    """
    scale = torch.tensor(INITIAL_SCALE if scaled else 1.0, dtype=torch.float32, device=device)
    counts = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(3)]
    return Recovery(scale, *counts)


def after_step(recovery: Recovery, finite: Tensor, loss: Tensor, *, scaled: bool) -> Recovery:
    """Return the state after a step.

    The scale halves after a step that is not finite, down to 1, and doubles after 2,000 finite
    steps without a change, up to 2^24. While it can still halve, an infinite gradient of a finite
    loss says that the scale was too high, nothing more: the step is skipped, but does not count as
    bad. Anything else that is not finite does.

    Args:
      recovery: the state before the step.
      finite: 0-d bool, whether the loss and all gradients were finite.
      loss: 0-d, the loss, not scaled.
      scaled: whether the loss scale is in use (float16).

    Returns:
      The state after the step.

    Example:
      >>> start = init_recovery(scaled=False)
      >>> after_step(start, torch.tensor(False), torch.tensor(torch.inf), scaled=False).bad_steps
      tensor(1)

    References:
      Micikevicius et al., 2018, Mixed precision training, section 3.2.
    """
    bad = ~finite
    if scaled:
        bad = bad & ~(torch.isfinite(loss) & (recovery.loss_scale > 1.0))
        recovery = _move_scale(recovery, finite)
    # Not `_replace`: compiled by torch 2.11, it returns a tuple without fields.
    return Recovery(
        loss_scale=recovery.loss_scale,
        good_steps=recovery.good_steps,
        bad_steps=torch.where(finite, 0, recovery.bad_steps + bad.to(torch.int64)),
        skipped=recovery.skipped + (~finite).to(torch.int64),
    )


def _move_scale(recovery: Recovery, finite: Tensor) -> Recovery:
    """Halve the scale after a bad step; double it after enough good ones."""
    good = torch.where(finite, recovery.good_steps + 1, 0)
    grow = good >= GROWTH_INTERVAL
    kept = torch.where(grow, (recovery.loss_scale * 2).clamp(max=MAX_SCALE), recovery.loss_scale)
    lowered = (recovery.loss_scale / 2).clamp(min=1.0)
    return Recovery(
        loss_scale=torch.where(finite, kept, lowered),
        good_steps=torch.where(grow, 0, good),
        bad_steps=recovery.bad_steps,
        skipped=recovery.skipped,
    )
