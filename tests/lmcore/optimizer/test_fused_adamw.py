"""The fused update against the one written out."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lmcore.errors import InputError
from lmcore.optimizer.adamw import adamw_init, adamw_step
from lmcore.optimizer.fused_adamw import fused_adamw_step

# More than a vector register, and not a multiple of one.
SHAPES = {"matrix": (7, 39), "gain": (5,), "scalar": ()}


def draw(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One tensor of each shape, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()
    }


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    lr=st.floats(0, 1),
    beta1=st.floats(0, 0.999),
    beta2=st.floats(0, 0.9999),
    eps=st.floats(1e-10, 1e-2),
    decay=st.floats(0, 1),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    flag=st.sampled_from([None, True]),
)
def test_equals_the_update_written_out(seed, lr, beta1, beta2, eps, decay, scale, flag):
    """Five steps in float64, whatever the hyperparameters; decay by name, rates as tensors."""
    wanted = draw(seed, torch.float64)
    found = copies(wanted)
    rest = {"weight_decay": {"matrix": decay}, "apply": flag and torch.tensor(True)}
    wanted_state, state = adamw_init(wanted), adamw_init(found)
    rate = torch.tensor(lr, dtype=torch.float64)
    for k in range(1, 6):
        grads = {name: scale * grad for name, grad in draw(seed + 7 * k, torch.float64).items()}
        both = (rate, (beta1, beta2), eps)
        wanted, wanted_state = adamw_step(wanted, grads, wanted_state, *both, **rest)
        found, state = fused_adamw_step(found, grads, state, *both, **rest)
    for name, param in wanted.items():  # as between `adamw_step` and torch.optim.AdamW
        torch.testing.assert_close(found[name], param, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(state.exp_avg[name], wanted_state.exp_avg[name])
        torch.testing.assert_close(state.exp_avg_sq[name], wanted_state.exp_avg_sq[name])
    assert state.step == wanted_state.step == 5


def test_fifty_steps_in_float32():
    """What a run uses: parameters differ by a few roundings of a step."""
    wanted = draw(0)
    found = copies(wanted)
    wanted_state, state = adamw_init(wanted), adamw_init(found)
    for k in range(1, 51):
        wanted, wanted_state = adamw_step(wanted, draw(k), wanted_state, 1e-2)
        found, state = fused_adamw_step(found, draw(k), state, 1e-2)
    for name, param in wanted.items():  # moves of 1e-2, each rounded at 1e-7 of itself
        torch.testing.assert_close(found[name], param, rtol=1e-6, atol=1e-6)


def test_nothing_moves_in_memory():
    """The tensors that come back are those that went in."""
    params, grads = draw(0), draw(1)
    state = adamw_init(params)
    found, after = fused_adamw_step(params, grads, state)
    for name in SHAPES:
        assert found[name] is params[name]
        assert after.exp_avg[name] is state.exp_avg[name]
        assert after.exp_avg_sq[name] is state.exp_avg_sq[name]


def test_a_refused_step_changes_no_bit():
    """With ``apply`` False nothing moves, not even the step, though every gradient is NaN."""
    params = draw(0)
    params, state = fused_adamw_step(params, draw(1), adamw_init(params))
    before = [copies(part) for part in (params, *state[1:])]
    grads = {name: torch.full_like(param, math.nan) for name, param in params.items()}
    params, state = fused_adamw_step(params, grads, state, apply=torch.tensor(False))
    for old, now in zip(before, (params, *state[1:]), strict=True):
        for name in SHAPES:
            assert torch.equal(old[name], now[name])
    assert state.step == 1


def test_refuses_what_adamw_refuses():
    """The same errors, before anything is written; and it cannot leave its arguments alone."""
    params, grads = draw(0), draw(1)
    with pytest.raises(InputError, match=r"lr is -1"):
        fused_adamw_step(params, grads, adamw_init(params), -1.0)
    with pytest.raises(ValueError, match="differ in their names: gain"):
        fused_adamw_step({"gain": params["gain"]}, {}, adamw_init(params))
    with pytest.raises(ValueError, match="in_place is False"):
        fused_adamw_step(params, grads, adamw_init(params), in_place=False)
    assert all(torch.equal(params[name], tensor) for name, tensor in draw(0).items())
