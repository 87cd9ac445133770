"""When a run goes back: loss spikes and rows of steps that are not finite."""

import math
import random
from functools import reduce

import pytest

from lmcore.training.config import TrainingConfig
from lmcore.training.spikes import (
    WINDOW,
    LossWatch,
    after_loss,
    after_rollback,
    is_high,
    must_roll_back,
)

TRAINING = TrainingConfig(max_rollbacks=2, rollback_every=10, spike_steps=3, max_bad_steps=4)
NAN = math.nan


def watched(losses: list[float], watch: LossWatch | None = None, first: int = 1) -> LossWatch:
    """The watch after steps with these losses; NaN is a step that was not finite."""
    bad = 0
    watch = watch or LossWatch()
    for step, loss in enumerate(losses, start=first):
        bad = bad + 1 if math.isnan(loss) else 0
        finite = not math.isnan(loss)
        watch = after_loss(watch, step, loss, TRAINING, finite=finite, bad_steps=bad)
    return watch


def noise(n: int, mean: float = 3.0, deviation: float = 0.1, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(mean, deviation) for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_learning_are_no_spike(seed):
    """Ten thousand losses of normal noise about a falling mean, and no loss is ever high."""
    losses = [3.0 + 3.0 * 0.99**t + z for t, z in enumerate(noise(10_000, 0.0, 0.1, seed))]
    watch = LossWatch()
    for step, loss in enumerate(losses, start=1):
        watch = after_loss(watch, step, loss, TRAINING)
        assert watch.high_steps == 0


def test_the_line_is_the_equation():
    """Of 0 to 31 the median is 15.5 and the median deviation 8: high begins at 15.5 + 11.8608 k."""
    recent = tuple(float(n) for n in range(WINDOW))
    line = 15.5 + 2 * 1.4826 * 8
    assert not is_high(line - 1e-9, recent, spreads=2)
    assert is_high(line + 1e-9, recent, spreads=2)


def test_a_loss_that_never_moves_has_a_spread():
    """Of equal losses 8 spreads are 8%: rounding is no spike."""
    assert not is_high(1.079, (1.0,) * WINDOW, spreads=8)
    assert is_high(1.081, (1.0,) * WINDOW, spreads=8)


def test_the_beginning_is_not_judged():
    """Before the window is full nothing is high."""
    assert watched([*noise(WINDOW - 1), 1e6]).high_steps == 0
    assert watched([*noise(WINDOW), 1e6]).high_steps == 1


@pytest.mark.parametrize("row", [1, 2, 3])
def test_a_spike_is_a_row_of_high_losses(row):
    """So many in a row as was asked; a usual loss between them begins anew."""
    usual = noise(40)
    spike = watched([*usual, *[9.0] * row])
    assert must_roll_back(spike, TRAINING) == (row == TRAINING.spike_steps)
    assert not must_roll_back(watched([*usual, 9.0, 9.0, 3.0, 9.0]), TRAINING)
    assert spike.recent == watched(usual).recent  # the spike does not become what is usual


def test_a_row_of_steps_that_are_not_finite_goes_back_too():
    """Counted by the training step; they neither end nor lengthen a row of high losses."""
    assert not must_roll_back(watched([*noise(40), NAN, NAN, NAN]), TRAINING)
    assert must_roll_back(watched([*noise(40), NAN, NAN, NAN, NAN]), TRAINING)
    assert must_roll_back(watched([*noise(40), 9.0, 9.0, NAN, 9.0]), TRAINING)
    assert not must_roll_back(watched([*noise(40), 9.0, NAN, NAN]), TRAINING)


@pytest.mark.parametrize("ruined", [9.0, NAN])
def test_a_restore_point_is_a_good_step(ruined):
    """A step that was due as one but was not good is none."""
    assert watched(noise(49)).restore_point == 40
    assert watched([*noise(49), ruined]).restore_point == 40
    assert watched([*noise(49), 3.0]).restore_point == 50


def test_going_back_passes_what_was_read():
    """The step after the restore point takes the batch after the last one that was read."""
    restored, spiked = watched(noise(40)), watched([*noise(44), 9.0, 9.0, 9.0])
    after = after_rollback(restored, spiked, 47)
    assert (after.data_offset, after.rollbacks, after.restore_point) == (7, 1, 40)
    assert 40 + after.data_offset == 47  # the index of step 41, and of the batch of step 48
    assert after.recent == restored.recent
    again = after_rollback(restored, after._replace(high_steps=3), 52)
    assert (again.data_offset, again.rollbacks) == (7 + 12, 2)


def test_the_watch_is_a_fold():
    """From any step on it goes on as if it had seen all: what a checkpoint needs."""
    losses = [*noise(60), 9.0, NAN, *noise(10, seed=1), 9.0, 9.0]
    whole = watched(losses)
    for cut in range(len(losses)):
        # the count of steps in a row is the training step's, so no cut inside a row of them
        if cut and math.isnan(losses[cut - 1]):
            continue
        assert watched(losses[cut:], watched(losses[:cut]), cut + 1) == whole
    assert reduce(max, whole.recent) < 4.0
