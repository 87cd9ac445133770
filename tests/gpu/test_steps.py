"""Training steps on every device: in low precision, in place, recorded, and without waiting."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flows.trainer.distributed import World
from flows.trainer.feed import DeviceFeed, HostFeed, PinnedFeed
from flows.trainer.graphed import graph_step, record_graph
from flows.trainer.loop import open_data
from lmcore.data.batch import batch_at
from lmcore.optimizer import adamw, muon
from lmcore.params import flatten
from lmcore.training import loss
from lmcore.training.config import Precision
from lmcore.training.recovery import MAX_SCALE
from lmcore.training.step import init_state
from tests.gpu.tasks import MODEL, batch, differing, new_step, rows_for, training
from tests.small_training import new_job

PRECISIONS = [name for name in get_args(Precision) if name != "auto"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_lowers_the_loss(device: str, precision: Precision) -> None:
    """Sixty steps in any precision learn to count: the loss falls below a half."""
    state, step = (
        init_state(MODEL, training(precision), device=device),
        new_step(device, precision, in_place=True),
    )
    losses = []
    for n in range(60):
        state, metrics = step(state, batch(n, device))
        losses.append(metrics["loss"])
    assert int(state.recovery.skipped) == 0
    assert float(losses[-1]) < 0.5 * float(losses[0])


def test_float16_recovers_from_an_overflow(device: str) -> None:
    """Steps whose gradients overflow change nothing but the scale, which falls until they fit."""
    state = init_state(MODEL, training("float16"), device=device)
    before = {name: tensor.clone() for name, tensor in state.params.items()}
    state.recovery.loss_scale.fill_(MAX_SCALE)
    step = new_step(device, "float16", in_place=True)
    state, metrics = step(state, batch(0, device))
    assert not bool(metrics["finite"])
    assert np.isfinite(float(metrics["loss"]))
    assert float(state.recovery.loss_scale) == MAX_SCALE / 2
    assert differing(state.params, before) == []
    finite = []
    for n in range(20):
        state, metrics = step(state, batch(n, device))
        finite.append(bool(metrics["finite"]))
    assert finite[-1]
    assert finite == sorted(finite)  # once it fits it fits
    assert int(metrics["bad_steps"]) == 0
    assert differing(state.params, before) == list(before)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_in_place_is_the_same_to_the_last_bit(device: str, precision: Precision) -> None:
    """Writing into the old tensors saves memory and changes no bit of state or metrics."""
    states = [init_state(MODEL, training(precision), device=device) for _ in range(2)]
    steps = [new_step(device, precision, in_place=in_place) for in_place in (False, True)]
    for n in range(4):
        results = [step(state, batch(n, device)) for step, state in zip(steps, states, strict=True)]
        states = [state for state, _ in results]
        assert differing(results[0][1], results[1][1]) == [], n
    assert differing(flatten(states[0]), flatten(states[1])) == []


@pytest.mark.parametrize("n_micro_batches", [1, 4])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_runs_are_one(device: str, precision: Precision, n_micro_batches: int) -> None:
    """No kernel adds in an order that changes: two runs are equal to the last bit."""
    states = []
    for _ in range(2):
        state = init_state(MODEL, training(precision), device=device)
        step = new_step(device, precision, in_place=True, n_micro_batches=n_micro_batches)
        for n in range(10):
            state, _ = step(state, batch(n, device, rows_for(device)))
        states.append(flatten(state))
    assert differing(*states) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_recorded_step_is_the_same_to_the_last_bit(device: str, precision: Precision) -> None:
    """Replayed as one graph, a step does what it does launched kernel by kernel."""
    record = record_graph if device == "cuda" else lambda work: work
    step = new_step(device, precision, in_place=True)
    recorded_step = graph_step(step, record)
    plain, recorded = (init_state(MODEL, training(precision), device=device) for _ in range(2))
    if precision == "float16":  # a scale so high that it changes from step to step
        for state in (plain, recorded):
            state.recovery.loss_scale.fill_(MAX_SCALE)
    for n in range(8):
        plain, expected = step(plain, batch(n, device, rows_for(device)))
        recorded, found = recorded_step(recorded, batch(n, device, rows_for(device)))
        assert differing(found, expected) == [], n
    assert differing(flatten(recorded), flatten(plain)) == []


# What torch says of its own watch.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", [DeviceFeed, PinnedFeed])
def test_nothing_waits_for_the_device(
    device: str, precision: Precision, kind: type, tmp_path: Path
) -> None:
    """A batch and a step are asked for without one wait: the host runs ahead of the GPU."""
    config = replace(training(precision), batch_size=rows_for(device))
    job = new_job(tmp_path / "job", model=MODEL, training=config)
    data = open_data(job)
    tokens = data.train.tokens % MODEL.vocab_size
    feed = kind(job, tokens, data.starts, World(device=torch.device(device)))
    step = new_step(device, precision, in_place=True)
    state = init_state(MODEL, config, device=device)
    state, _ = step(state, feed.batch(0))  # libraries set themselves up
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for index in (1, 2, 63, 64):  # the last is of the next group of windows
            state, _ = step(state, feed.batch(index))
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert int(state.step) == 5


# Operations that ask for a number or a shape which only the device knows, and scatter_add in two
# dimensions, whose deterministic kernel on CUDA copies a table from the host and waits for it.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "scatter_add"}


class Operations(TorchDispatchMode):
    """The names of the operations that run in its block, in-place ones under their plain name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")
        if name != "scatter_add" or args[0].ndim > 1:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss_chunk_tokens", [0, 100])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_operation_asks_the_device(
    device: str, precision: Precision, loss_chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step is made of never needs an answer, so it can be recorded.

    On a CPU it looks at a number here and there, because there it may; not so as on a GPU.
    """
    for module in (adamw, muon, loss):
        monkeypatch.setattr(module, "may_branch", lambda tensor: False)
    step = new_step(device, precision, in_place=True, loss_chunk_tokens=loss_chunk_tokens)
    state = init_state(MODEL, training(precision), device=device)
    given = batch(0, device)
    with Operations() as ran:
        step(state, given)
    assert {"mm", "embedding"} <= ran.names
    assert ran.names & WAITING == set()


@pytest.mark.parametrize("kind", [HostFeed, DeviceFeed, PinnedFeed])
def test_batches_are_those_of_the_definition(device: str, kind: type, tmp_path: Path) -> None:
    """Gathered on the device or sent to it, a batch is `batch_at`'s of the same step."""
    job = new_job(tmp_path / "job")
    data = open_data(job)
    feed = kind(job, data.train.tokens, data.starts, World(device=torch.device(device)))
    for index in (0, 1, 2, 63, 64, 1000, 5):
        expected = batch_at(data.train.tokens, data.starts, 32, 4, 0, index)
        for ours, theirs in zip(feed.batch(index), expected, strict=True):
            assert ours.device.type == device
            assert np.array_equal(ours.cpu().numpy(), theirs), index
