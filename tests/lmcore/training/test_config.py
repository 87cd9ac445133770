"""The settings of training and their faults."""

import dataclasses
import math

import pytest

from lmcore.training.config import TrainingConfig, faults, n_steps

BAD = {
    "seed": -1,
    "tokens": 0,
    "batch_size": 0,
    "layout": "shuffled",
    "max_lr": 0.0,
    "min_lr_ratio": 1.5,
    "warmup_steps": -1,
    "beta1": 1.0,
    "beta2": -0.1,
    "eps": 0.0,
    "weight_decay": -1.0,
    "dropout": 1.0,
    "optimizer": "sgd",
    "embedding_lr_ratio": 0.0,
    "muon_max_lr": 0.0,
    "muon_momentum": 1.0,
    "max_grad_norm": -1.0,
    "precision": "float8",
    "max_bad_steps": 0,
    "max_rollbacks": -1,
    "rollback_every": 0,
    "spike_steps": 0,
    "spike_spreads": 0.5,
    "validate_every": -1,
}


def test_the_defaults_have_no_faults():
    """What a learner gets without choosing anything can be trained with."""
    assert faults(TrainingConfig(), context_length=256) == []


def test_every_field_has_a_range_that_is_checked():
    """Each field has a value that is refused, by a message with the value and the flag to set."""
    assert BAD.keys() == {field.name for field in dataclasses.fields(TrainingConfig)}
    for name, value in BAD.items():
        (message,) = faults(TrainingConfig(**{name: value}))
        assert message.startswith(f"{name} is {value!r}")
        assert f"--training.{name.replace('_', '-')}" in message


def test_all_faults_come_at_once():
    """A config that is wrong everywhere says everything."""
    assert len(faults(TrainingConfig(**BAD))) == len(BAD)


@pytest.mark.parametrize("name", ["max_lr", "beta1", "weight_decay", "eps", "max_grad_norm"])
def test_not_a_number_is_a_fault(name):
    """NaN passes no range."""
    assert len(faults(TrainingConfig(**{name: math.nan}))) == 1


def test_a_warm_up_longer_than_the_run_is_a_fault():
    """The warm-up is compared with the steps of the run where the context length is known."""
    config = TrainingConfig(tokens=1024, batch_size=2, warmup_steps=3)
    assert faults(config) == faults(config, context_length=128) == []
    (message,) = faults(config, context_length=256)
    assert "2 steps" in message
    assert "--training.warmup-steps" in message


@pytest.mark.parametrize(("tokens", "expected"), [(1, 1), (512, 1), (513, 2), (1024, 2)])
def test_steps_are_rounded_up(tokens, expected):
    """The tokens asked for are always reached, by less than one step too many."""
    assert n_steps(TrainingConfig(tokens=tokens, batch_size=2), 256) == expected
