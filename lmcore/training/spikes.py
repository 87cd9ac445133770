"""When a run should go back: a loss that has left its recent range, or steps that are not finite.

A function of the losses alone, so a run that is resumed decides as one that never stopped. The loop
that trains does the going back; here is only when, to where, and past which data.
"""

from statistics import median
from typing import NamedTuple

from lmcore.training.config import TrainingConfig

WINDOW = 32  # losses that say what is usual; the median of fewer would follow the spike itself
# MAD times this is the standard deviation, where losses are normally distributed.
MAD_TO_DEVIATION = 1.4826
# A run that repeats a few batches has hardly any spread; its loss must still rise by 1% or more.
LEAST_SPREAD = 0.01


class LossWatch(NamedTuple):
    """What the losses so far have told; a part of the checkpoint.

    Attributes:
      recent: the last good losses, oldest first, nats a token, at most ``WINDOW``.
      high_steps: steps in a row, up to now, with a loss out of range.
      bad_steps: steps in a row, up to now, that were not finite.
      restore_point: the last good step after which a checkpoint to go back to was taken; 0 is the
        state before the first step.
      data_offset: the step with index t takes the batch ``t + data_offset``.
      rollbacks: how often the run has gone back.

    Example:
      >>> LossWatch().data_offset
      0
    """

    recent: tuple[float, ...] = ()
    high_steps: int = 0
    bad_steps: int = 0
    restore_point: int = 0
    data_offset: int = 0
    rollbacks: int = 0


def is_high(loss: float, recent: tuple[float, ...], spreads: float) -> bool:
    r"""Return whether a loss is far above the recent ones.

    .. math:: \ell > m + k \max(1.4826 \, \mathrm{median}_i |\ell_i - m|, \; 0.01 \, |m|),
       \qquad m = \mathrm{median}_i \, \ell_i

    The median and the median deviation ignore a few outliers, where mean and standard deviation
    follow them.

    Args:
      loss: nats a token, finite.
      recent: the losses to compare with; fewer than ``WINDOW`` judge nothing.
      spreads: :math:`k`, in robust standard deviations.

    Example:
      >>> usual = (2.0, 2.1, 1.9, 2.0) * 8
      >>> is_high(2.3, usual, spreads=8.0), is_high(3.0, usual, spreads=8.0)
      (False, True)

    References:
      Hampel, 1974, The influence curve and its role in robust estimation (the median deviation).
    """
    if len(recent) < WINDOW:
        return False
    middle = median(recent)
    deviation = MAD_TO_DEVIATION * median(abs(other - middle) for other in recent)
    return loss > middle + spreads * max(deviation, LEAST_SPREAD * abs(middle))


def after_loss(
    watch: LossWatch,
    step: int,
    loss: float,
    training: TrainingConfig,
    *,
    finite: bool = True,
    bad_steps: int = 0,
) -> LossWatch:
    """Return the watch after a step.

    A loss out of range does not join the recent ones, and a step that is not finite neither
    lengthens nor ends a row of such losses.

    Args:
      watch: before the step.
      step: steps taken, this one included.
      loss: of this step, nats a token.
      training: how far, how long, and how often restore points are taken.
      finite: whether the loss and all gradients were finite.
      bad_steps: steps in a row that were not, as the training step counts them.

    Example:
      >>> after_loss(LossWatch(), 100, 2.5, TrainingConfig()).restore_point
      100
    """
    if not finite:
        return watch._replace(bad_steps=bad_steps)
    if is_high(loss, watch.recent, training.spike_spreads):
        return watch._replace(bad_steps=0, high_steps=watch.high_steps + 1)
    restores = step % training.rollback_every == 0
    return watch._replace(
        recent=(*watch.recent, loss)[-WINDOW:],
        high_steps=0,
        bad_steps=0,
        restore_point=step if restores else watch.restore_point,
    )


def must_roll_back(watch: LossWatch, training: TrainingConfig) -> bool:
    """Return whether too many steps in a row were out of range, or not finite.

    Example:
      >>> must_roll_back(LossWatch(high_steps=5), TrainingConfig(spike_steps=5))
      True
    """
    return watch.high_steps >= training.spike_steps or watch.bad_steps >= training.max_bad_steps


def after_rollback(restored: LossWatch, watch: LossWatch, step: int) -> LossWatch:
    r"""Return the watch with which a run goes on from its restore point.

    .. math:: o \leftarrow o + s - r

    where the run stood at step s and goes back to step r: its next batch is the one after those it
    had come to, so everything read since the restore point is passed by.

    Args:
      restored: as it was at the restore point.
      watch: as it was when the run had to go back.
      step: s.

    Example:
      >>> after_rollback(LossWatch(restore_point=100), LossWatch(restore_point=100), 112)[-2:]
      (12, 1)

    References:
      Chowdhery et al., 2022, PaLM, section 5.1: restart from a checkpoint about 100 steps before
      the spike, and skip the 200 to 500 batches seen before and during it.
    """
    passed = step - watch.restore_point
    return restored._replace(data_offset=watch.data_offset + passed, rollbacks=watch.rollbacks + 1)
