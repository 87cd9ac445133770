"""The model's configuration: derived widths and the faults it reports."""

from dataclasses import replace

import pytest

from lmcore.model.config import ModelConfig, faults
from tests.lmcore.model.choices import CHOICES, EVERY_CHOICE, name


@pytest.mark.parametrize("config", [ModelConfig(), *EVERY_CHOICE], ids=name)
def test_usable_configurations_have_no_faults(config):
    """The defaults and every combination of choices can be used."""
    assert faults(config) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vocab_size": -1}, "--model.vocab-size"),
        ({"context_length": 0}, "--model.context-length"),
        ({"d_model": 0}, "--model.d-model"),
        ({"n_layers": -1}, "--model.n-layers"),
        ({"n_heads": 0}, "--model.n-heads"),
        ({"d_ff": -1}, "--model.d-ff"),
        ({"rope_theta": 0.0}, "--model.rope-theta"),
        ({"rope_theta": float("nan")}, "--model.rope-theta"),
        ({"d_model": 100, "n_heads": 3}, "multiple of n_heads (3)"),
        ({"d_model": 12, "n_heads": 4}, "head_dim is 3 (d_model 12 / n_heads 4)"),
    ],
)
def test_each_fault_is_told_with_its_flag(change, told):
    """One bad value gives one message, which says what to change."""
    (message,) = faults(replace(ModelConfig(), **change))
    assert told in message


@pytest.mark.parametrize(
    "field", [f for f, values in CHOICES.items() if str(values[0]) == values[0]]
)
def test_an_unknown_choice_is_told_with_those_there_are(field):
    """A name outside its Literal is a fault that lists the names inside."""
    (message,) = faults(replace(ModelConfig(), **{field: "other"}))
    assert ", ".join(CHOICES[field]) in message
    assert f"--model.{field.replace('_', '-')}" in message


def test_all_faults_come_at_once():
    """Four bad values give four messages."""
    bad = ModelConfig(context_length=0, d_model=30, n_heads=4, rope_theta=-1.0, d_ff=-5)
    assert len(faults(bad)) == 4


def test_an_odd_head_dim_is_fine_without_rotation():
    """Only RoPE needs pairs."""
    assert faults(ModelConfig(d_model=12, n_heads=4, positions="none")) == []


@pytest.mark.parametrize(
    ("change", "width"),
    [
        ({}, 512),
        ({"feed_forward": "silu", "d_model": 100}, 400),
        ({"feed_forward": "swiglu"}, 384),
        ({"feed_forward": "swiglu", "d_model": 96}, 256),
        ({"feed_forward": "swiglu", "d_model": 97}, 320),
        ({"feed_forward": "swiglu", "d_model": 512, "d_ff": 1344}, 1344),
    ],
)
def test_the_inner_width_follows_from_the_kind(change, width):
    """4 d_model, or 8/3 d_model up to a multiple of 64 (256 is exactly 8/3 of 96), or as given."""
    assert replace(ModelConfig(), **change).ffn_width == width
