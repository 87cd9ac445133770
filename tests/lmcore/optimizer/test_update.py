"""Which rule moves which parameter: each parameter by one rule, as if that rule were alone."""

from typing import get_args

import pytest
import torch

from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.optimizer.adamw import AdamWState, adamw_init, adamw_step
from lmcore.optimizer.fused_adamw import fused_adamw_step
from lmcore.optimizer.muon import muon_init, muon_step
from lmcore.optimizer.update import (
    MuonAndAdamWState,
    decay_by_name,
    optimizer_init,
    optimizer_step,
)
from lmcore.params import flatten
from lmcore.training.config import Optimizer

MODEL = ModelConfig(
    vocab_size=11, context_length=8, d_model=8, n_layers=2, n_heads=2, norm="layer_norm"
)
PARAMS = init_params(MODEL, 0)
OPTIONS = {
    "lr": 0.01,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "muon_lr": 0.03,
    "muon_momentum": 0.9,
}
HIDDEN = {name for name in PARAMS if ".attn." in name or ".ffn." in name}


def gradients(seed: int) -> dict[str, torch.Tensor]:
    """A gradient of every parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(p.shape, generator=generator) for n, p in PARAMS.items()}


def part(values, names):
    """The values of some names."""
    return {name: value for name, value in values.items() if name in names}


def after(optimizer, steps=3, **options):
    """Parameters and state after some steps."""
    params, state = PARAMS, optimizer_init(PARAMS, optimizer)
    for seed in range(steps):
        params, state = optimizer_step(params, gradients(seed), state, **OPTIONS, **options)
    return params, state


def test_adamw_moves_all_and_its_state_is_adamws_own():
    """With adamw the bits are those of ``adamw_step``, and so are the names of the state."""
    params, state = after("adamw")
    expected, expected_state = PARAMS, adamw_init(PARAMS)
    options = {name: OPTIONS[name] for name in ("lr", "betas", "eps")}
    decay = decay_by_name(PARAMS, 0.1)
    for seed in range(3):
        expected, expected_state = adamw_step(
            expected, gradients(seed), expected_state, weight_decay=decay, **options
        )
    assert isinstance(state, AdamWState)
    assert all(torch.equal(params[name], expected[name]) for name in PARAMS)
    left, right = flatten(state), flatten(expected_state)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[path], right[path]) for path in left)


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest():
    """With muon every parameter has the bits of its own rule alone, at that rule's rate."""
    params, state = after("muon")
    hidden, rest = part(PARAMS, HIDDEN), part(PARAMS, PARAMS.keys() - HIDDEN)
    hidden_state, rest_state = muon_init(hidden), adamw_init(rest)
    options = {name: OPTIONS[name] for name in ("lr", "betas", "eps")}
    for seed in range(3):
        grads = gradients(seed)
        hidden, hidden_state = muon_step(hidden, part(grads, HIDDEN), hidden_state, 0.03, 0.9, 0.1)
        rest, rest_state = adamw_step(
            rest, part(grads, rest), rest_state, weight_decay=decay_by_name(rest, 0.1), **options
        )
    expected = {**hidden, **rest}
    assert isinstance(state, MuonAndAdamWState)
    assert list(params) == list(PARAMS)
    assert all(torch.equal(params[name], expected[name]) for name in PARAMS)
    assert state.muon.momentum.keys() == HIDDEN
    assert state.adamw.exp_avg.keys() == PARAMS.keys() - HIDDEN


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_parameter_moves(optimizer):
    """No rule leaves a parameter behind."""
    params, _ = after(optimizer, steps=1)
    assert not any(torch.equal(params[name], PARAMS[name]) for name in PARAMS)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("adamw", [adamw_step, fused_adamw_step])
def test_embeddings_have_a_learning_rate_of_their_own(optimizer, adamw):
    """They move five times as far as alone at the rate of the rest, and decay as far; others stay.

    In the first step of Adam an entry moves by the rate, whatever its gradient.
    """
    options = {name: value for name, value in OPTIONS.items() if name != "weight_decay"}
    moved = {}
    for ratio, decay in ((1.0, 0.0), (5.0, 0.0), (1.0, 0.5), (5.0, 0.5)):
        params = {name: param.clone() for name, param in PARAMS.items()}
        found, _ = optimizer_step(
            params,
            gradients(0),
            optimizer_init(params, optimizer),
            **options,
            weight_decay=decay,
            embedding_lr_ratio=ratio,
            adamw=adamw,
            in_place=True,
        )
        moved[ratio, decay] = {name: found[name] - PARAMS[name] for name in PARAMS}
    for name in PARAMS:
        times = 5.0 if name == "token_embeddings.weight" else 1.0
        torch.testing.assert_close(moved[5.0, 0.0][name], times * moved[1.0, 0.0][name])
        decayed = [moved[ratio, 0.5][name] - moved[ratio, 0.0][name] for ratio in (1.0, 5.0)]
        torch.testing.assert_close(*decayed, rtol=1e-4, atol=1e-6)
