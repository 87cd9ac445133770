"""The loss scale and the counts of bad steps."""

import pytest
import torch

from lmcore.training.recovery import (
    GROWTH_INTERVAL,
    INITIAL_SCALE,
    MAX_SCALE,
    after_step,
    init_recovery,
)

GOOD, OVERFLOW, BAD_LOSS = (True, 2.0), (False, 2.0), (False, float("nan"))


def run(steps, *, scaled, start=None):
    """Walk through steps given as (finite, loss)."""
    recovery = start or init_recovery(scaled=scaled)
    for finite, loss in steps:
        recovery = after_step(recovery, torch.tensor(finite), torch.tensor(loss), scaled=scaled)
    return recovery


def test_bad_steps_in_a_row_and_in_all():
    """A good step ends the row of bad ones; the sum of skipped steps only grows."""
    recovery = run([BAD_LOSS, BAD_LOSS, GOOD, OVERFLOW], scaled=False)
    assert (recovery.bad_steps.item(), recovery.skipped.item()) == (1, 3)
    assert run([BAD_LOSS] * 5, scaled=False).bad_steps == 5


def test_without_scaling_the_scale_stays_one():
    """Outside float16 the scale is 1 for ever, through good and bad steps."""
    recovery = run([GOOD] * 3 + [OVERFLOW, BAD_LOSS], scaled=False)
    assert recovery.loss_scale == 1.0


def test_the_scale_halves_until_one_and_only_then_overflow_is_bad():
    """An overflow under a scale that can still halve is skipped but not counted as bad."""
    assert INITIAL_SCALE == 2**16
    recovery = run([OVERFLOW] * 16, scaled=True)
    assert (recovery.loss_scale.item(), recovery.bad_steps.item()) == (1.0, 0)
    assert recovery.skipped == 16
    recovery = run([OVERFLOW] * 2, scaled=True, start=recovery)
    assert (recovery.loss_scale.item(), recovery.bad_steps.item()) == (1.0, 2)


def test_a_loss_that_is_not_finite_is_bad_under_any_scale():
    """The loss itself is not scaled: where it is NaN, no scale will mend it."""
    recovery = run([BAD_LOSS] * 3, scaled=True)
    assert (recovery.bad_steps.item(), recovery.loss_scale.item()) == (3, INITIAL_SCALE / 8)


def test_the_scale_doubles_after_enough_good_steps_in_a_row():
    """It takes the whole interval without a change, and a bad step begins it anew."""
    almost = run([GOOD] * (GROWTH_INTERVAL - 1), scaled=True)
    assert almost.loss_scale == INITIAL_SCALE
    assert run([GOOD], scaled=True, start=almost).loss_scale == 2 * INITIAL_SCALE
    interrupted = run([OVERFLOW, GOOD], scaled=True, start=almost)
    assert (interrupted.loss_scale.item(), interrupted.good_steps.item()) == (INITIAL_SCALE / 2, 1)


def test_the_scale_stops_before_infinity():
    """Growth ends at 2^24: a gradient of zeros cannot drive the scale to infinity."""
    start = init_recovery(scaled=True)._replace(
        loss_scale=torch.tensor(MAX_SCALE), good_steps=torch.tensor(GROWTH_INTERVAL - 1)
    )
    assert run([GOOD], scaled=True, start=start).loss_scale == MAX_SCALE


@pytest.mark.parametrize("scaled", [False, True])
def test_dtypes_and_shapes_never_change(scaled):
    """The state keeps its dtypes through every kind of step: a checkpoint and a graph need that."""
    start = init_recovery(scaled=scaled)
    end = run([GOOD, OVERFLOW, BAD_LOSS, GOOD], scaled=scaled)
    assert [(t.dtype, t.shape) for t in start] == [(t.dtype, t.shape) for t in end]
