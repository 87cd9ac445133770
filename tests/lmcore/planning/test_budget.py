"""The budget: exact where it counts, near where it estimates."""

from dataclasses import replace
from typing import get_args

import pytest

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.counts import training_flops
from lmcore.model.init import init_params
from lmcore.params import count, flatten
from lmcore.planning.budget import faults, plan
from lmcore.training.config import Optimizer, TrainingConfig
from lmcore.training.step import init_state

MODEL = ModelConfig(vocab_size=1024)
TRAINING = TrainingConfig(tokens=1_000_000, batch_size=24)


def test_counts_are_exact():
    """Parameters, steps, tokens and FLOPs are those of the model and the training."""
    budget = plan(MODEL, TRAINING, micro_batch=8, corpus_tokens=250_000)
    assert budget.params.total == count(init_params(MODEL, 0))
    assert budget.steps == 163
    assert budget.tokens == 163 * 24 * 256 >= TRAINING.tokens
    assert budget.flops == training_flops(MODEL, budget.tokens)
    assert budget.epochs == pytest.approx(budget.tokens / 250_000)
    assert budget.tokens_per_parameter == pytest.approx(budget.tokens / budget.params.total)
    assert plan(MODEL, TRAINING, micro_batch=8).epochs == 0.0


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_a_checkpoint_holds_the_weights_and_the_moments(optimizer):
    """Two are kept, besides the best one and the one being written."""
    training = replace(TRAINING, optimizer=optimizer)
    tensors = flatten(init_state(MODEL, training)).values()
    state_bytes = sum(t.numel() * t.element_size() for t in tensors if t.ndim)
    assert plan(MODEL, training, micro_batch=24).disk.checkpoints == 4 * state_bytes


def test_what_cannot_fit_is_told_with_both_sizes():
    """Too little memory or disk is a message with need, room and the flag; unknown is no fault."""
    budget = plan(MODEL, TRAINING, micro_batch=8, corpus_bytes=10**9)
    assert faults(budget, 1e12, 1e12) == faults(budget, 0, -1) == []
    memory, disk = faults(budget, 100e6, 50e6)
    assert "100 MB are free" in memory
    assert "--numerics.micro-batch" in memory
    assert "50 MB of disk" in disk
    assert "--artifacts" in disk
    (memory,) = faults(plan(MODEL, TRAINING, micro_batch=1), 100e6, 1e12)
    assert "--model.context-length" in memory


def test_tokens_on_disk_follow_the_vocabulary():
    """Beyond 65,536 tokens an id takes four bytes instead of two, in the map and in Parquet."""
    small, large = (
        plan(replace(MODEL, vocab_size=v), TRAINING, micro_batch=1, corpus_tokens=1000).disk.tokens
        for v in (65_536, 65_537)
    )
    assert (small, large) == (4_000, 8_000)


def test_a_model_without_vocabulary_has_no_budget():
    """The vocabulary must be known: it decides the parameters."""
    with pytest.raises(InputError, match=r"--model\.vocab-size"):
        plan(ModelConfig(), TRAINING, micro_batch=1)
