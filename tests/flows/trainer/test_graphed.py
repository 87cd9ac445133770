"""A recorded step takes the steps of the plain one; here its replay does the work again."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from flows.trainer.graphed import graph_step
from lmcore.model.config import ModelConfig
from lmcore.params import flatten
from lmcore.training.config import TrainingConfig
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(vocab_size=16, context_length=8, d_model=8, n_layers=1, n_heads=2)
TRAINING = TrainingConfig(tokens=640, batch_size=2, warmup_steps=1, precision="float16")
STEP = partial(train_step, model=MODEL, training=TRAINING, in_place=True)


def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = (torch.arange(18).view(2, 9) * (n + 1)) % 16
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def again(work: Callable[[], None]) -> Callable[[], None]:
    """Stands for a graph on a CPU: the same tensors, worked out anew at each replay."""
    return work


def test_recorded_step_takes_the_same_steps() -> None:
    """Parameters, moments, counters and metrics of every step are those of the plain step.

    The loss scale is so high that it changes from step to step: a metric and a counter at once.
    """
    plain, recorded = init_state(MODEL, TRAINING), init_state(MODEL, TRAINING)
    for state in (plain, recorded):
        state.recovery.loss_scale.fill_(2.0**24)
    step = graph_step(STEP, again)
    for n in range(6):
        plain, expected = STEP(plain, batch(n))
        recorded, found = step(recorded, batch(n))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            # A norm of overflown gradients is no number, in both.
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)
        for name, tensor in flatten(plain).items():
            assert torch.equal(flatten(recorded)[name], tensor), (n, name)


def test_recorded_step_writes_into_one_state() -> None:
    """From the second call on the same tensors hold the state: a graph knows no others."""
    step, state = graph_step(STEP, again), init_state(MODEL, TRAINING)
    state, _ = step(state, batch(0))
    after, _ = step(state, batch(1))
    assert after is state
    assert int(after.step) == 2


def test_another_state_is_refused() -> None:
    """A state that the recording does not know would be passed over in silence."""
    step, state = graph_step(STEP, again), init_state(MODEL, TRAINING)
    state, _ = step(state, batch(0))
    step(state, batch(1))
    with pytest.raises(ValueError, match="goes on with the state that it returned"):
        step(init_state(MODEL, TRAINING), batch(2))


def test_work_is_recorded_once() -> None:
    """One warm call, one recording; a run of any length launches the same graph."""
    recordings: list[Callable[[], None]] = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recordings.append(work)
        return work

    step, state = graph_step(STEP, record), init_state(MODEL, TRAINING)
    for n in range(4):
        state, _ = step(state, batch(n))
        assert len(recordings) == (0 if n == 0 else 1)
