"""The learning-rate schedule at and between its borders."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.optimizer.schedule import cosine_schedule

MAX_LR, MIN_LR, WARMUP, COSINE = 1.0, 0.1, 7, 21

# By the formula in exact arithmetic: cosines of multiples of π/14, to ten digits.
KNOWN = {
    0: 0.0,
    1: 1 / 7,
    6: 6 / 7,
    7: 1.0,
    8: 0.9887175604,
    14: 0.55,
    20: 0.1112824395,
    21: 0.1,
    22: 0.1,
    1000: 0.1,
}


@pytest.mark.parametrize(("step", "expected"), KNOWN.items())
@pytest.mark.parametrize("wrap", [int, torch.tensor])
def test_known_answers_at_the_borders(step, expected, wrap):
    """Warm-up starts at zero and ends at the maximum; the cosine ends at the minimum and stays."""
    lr = cosine_schedule(wrap(step), MAX_LR, MIN_LR, WARMUP, COSINE)
    assert float(lr) == pytest.approx(expected, rel=1e-9, abs=0)


@settings(deadline=None)
@given(
    step=st.integers(0, 3000),
    max_lr=st.floats(1e-6, 1),
    ratio=st.floats(0, 1),
    warmup=st.integers(0, 1000),
    cosine=st.integers(1, 1000),
)
def test_float_is_the_formula_to_the_last_bit(step, max_lr, ratio, warmup, cosine):
    """For an int the result is the formula as written, and a tensor agrees to two last places."""
    end, min_lr = warmup + cosine, ratio * max_lr
    if step < warmup:
        expected = step / warmup * max_lr
    elif step <= end:
        angle = (step - warmup) / (end - warmup) * math.pi
        expected = min_lr + 0.5 * (1 + math.cos(angle)) * (max_lr - min_lr)
    else:
        expected = min_lr
    assert cosine_schedule(step, max_lr, min_lr, warmup, end) == expected
    tensor = cosine_schedule(torch.tensor(step), max_lr, min_lr, warmup, end)
    assert tensor.dtype == torch.float64
    # Near its end the cosine is 1 + cos ≈ 0, whose last places are those of 1: relative to max_lr.
    assert tensor.item() == pytest.approx(expected, rel=0, abs=4.5e-16 * max_lr)


@pytest.mark.parametrize("wrap", [int, torch.tensor])
def test_degenerate_lengths_are_finite(wrap):
    """No warm-up starts at the maximum; a schedule as long as its warm-up peaks, then drops."""
    assert cosine_schedule(wrap(0), 1.0, 0.1, 0, 10) == 1.0
    assert [float(cosine_schedule(wrap(t), 1.0, 0.1, 4, 4)) for t in (3, 4, 5)] == [0.75, 1.0, 0.1]
    assert [float(cosine_schedule(wrap(t), 1.0, 0.1, 4, 2)) for t in (3, 4)] == [0.75, 0.1]
