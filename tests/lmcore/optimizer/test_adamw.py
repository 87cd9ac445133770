"""AdamW against PyTorch's own, and the two ways of refusing and reusing."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from lmcore.errors import InputError
from lmcore.optimizer.adamw import AdamWState, adamw_init, adamw_step
from lmcore.optimizer.update import decay_by_name

SHAPES = {"matrix": (3, 4), "gain": (5,), "scalar": ()}


def draw(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """One tensor of each shape, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()
    }


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """The same names and the same bits (NaN is not expected here)."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0)


def torch_adamw(params, gradients, lr, betas, eps, decays):
    """The oracle: torch.optim.AdamW over the same steps."""
    leaves = {name: torch.nn.Parameter(param.clone()) for name, param in params.items()}
    groups = [{"params": [leaf], "weight_decay": decays[name]} for name, leaf in leaves.items()]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)
    for grads in gradients:
        for name, leaf in leaves.items():
            leaf.grad = grads[name]
        optimizer.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    lr=st.floats(0, 1),
    beta1=st.floats(0, 0.999),
    beta2=st.floats(0, 0.9999),
    eps=st.floats(1e-10, 1e-2),
    decay=st.floats(0, 1),
    by_name=st.booleans(),
    as_tensor=st.booleans(),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_equals_torch_adamw(seed, lr, beta1, beta2, eps, decay, by_name, as_tensor, scale):
    """Five steps give torch.optim.AdamW's parameters, whatever the hyperparameters."""
    params = draw(seed)
    gradients = [
        {name: scale * grad for name, grad in draw(seed + 7 * k).items()} for k in range(1, 6)
    ]
    decays = decay_by_name(params, decay) if by_name else dict.fromkeys(params, decay)
    expected = torch_adamw(params, gradients, lr, (beta1, beta2), eps, decays)
    state = adamw_init(params)
    rate = torch.tensor(lr, dtype=torch.float64) if as_tensor else lr
    for grads in gradients:
        params, state = adamw_step(
            params, grads, state, rate, (beta1, beta2), eps, decays if by_name else decay
        )
    # float64 rounds at 1e-16; the two order a few dozen operations differently over five steps,
    # and 1 − β² of a large β loses three digits in either.
    for name, param in params.items():
        torch.testing.assert_close(param, expected[name], rtol=1e-11, atol=1e-13)


def test_first_step_by_hand():
    """The first step moves by lr · g / (|g| + ε) after the decay: a known answer by arithmetic."""
    params = {"w": torch.tensor([2.0, -1.0], dtype=torch.float64)}
    grads = {"w": torch.tensor([0.5, -3.0], dtype=torch.float64)}
    new, state = adamw_step(
        params, grads, adamw_init(params), lr=0.1, betas=(0.9, 0.99), eps=0.5, weight_decay=0.2
    )
    expected = [2.0 * 0.98 - 0.1 * 0.5 / 1.0, -1.0 * 0.98 + 0.1 * 3.0 / 3.5]
    assert new["w"].tolist() == pytest.approx(expected, rel=1e-15)
    assert state.exp_avg["w"].tolist() == pytest.approx([0.05, -0.3])
    assert state.exp_avg_sq["w"].tolist() == pytest.approx([0.0025, 0.09])


@pytest.mark.parametrize("apply", [None, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_place_gives_the_same_bits_in_the_same_memory(apply, dtype):
    """In place, the bits are those of new tensors, and nothing moves in memory."""
    flag = None if apply is None else torch.tensor(apply)
    pure = draw(0, dtype)
    mutated = {name: tensor.clone() for name, tensor in pure.items()}
    addresses = {name: tensor.data_ptr() for name, tensor in mutated.items()}
    pure_state, mutated_state = adamw_init(pure), adamw_init(mutated)
    for k in range(1, 4):
        grads = draw(k, dtype)
        pure, pure_state = adamw_step(pure, grads, pure_state, 0.1, apply=flag)
        mutated, mutated_state = adamw_step(
            mutated, grads, mutated_state, 0.1, apply=flag, in_place=True
        )
    assert_equal(pure, mutated)
    assert_equal(pure_state.exp_avg, mutated_state.exp_avg)
    assert_equal(pure_state.exp_avg_sq, mutated_state.exp_avg_sq)
    assert {name: tensor.data_ptr() for name, tensor in mutated.items()} == addresses


def test_arguments_are_not_written_to():
    """Without ``in_place`` the caller's parameters, gradients and state stay as they are."""
    params, grads = draw(0), draw(1)
    state = AdamWState(torch.tensor(3), draw(2), {k: v**2 for k, v in draw(3).items()})
    before = [{k: v.clone() for k, v in part.items()} for part in (params, grads, *state[1:])]
    adamw_step(params, grads, state)
    for old, now in zip(before, (params, grads, *state[1:]), strict=True):
        assert_equal(old, now)
    assert state.step.item() == 3


@pytest.mark.parametrize("in_place", [False, True])
def test_a_refused_step_changes_no_bit(in_place):
    """With ``apply`` False nothing moves, not even the step, though every gradient is NaN."""
    params = draw(0)
    params, state = adamw_step(params, draw(1), adamw_init(params))
    expected = [{k: v.clone() for k, v in part.items()} for part in (params, *state[1:])]
    grads = {name: torch.full_like(param, math.nan) for name, param in params.items()}
    params, state = adamw_step(params, grads, state, apply=torch.tensor(False), in_place=in_place)
    for old, now in zip(expected, (params, *state[1:]), strict=True):
        assert_equal(old, now)
    assert state.step.item() == 1


def test_rates_by_name():
    """Each parameter moves by its own rate; a name too few or too many is refused."""
    params, grads = draw(0), draw(1)
    rates = {"matrix": 0.1, "gain": torch.tensor(0.2), "scalar": 0.0}
    found, _ = adamw_step(params, grads, adamw_init(params), rates)
    for name, rate in rates.items():
        expected, _ = adamw_step(params, grads, adamw_init(params), rate)
        assert torch.equal(found[name], expected[name])
    with pytest.raises(ValueError, match="lr and parameters differ in their names: scalar"):
        adamw_step(params, grads, adamw_init(params), part_of(rates, 2))
    with pytest.raises(InputError, match=r"lr is .* it must be at least 0"):
        adamw_step(params, grads, adamw_init(params), {**rates, "scalar": -1.0})


def part_of(values: dict, n: int) -> dict:
    """The first n entries."""
    return dict(list(values.items())[:n])


def test_decay_acts_on_matrices_alone():
    """With zero gradients only what has two axes or more shrinks, by exactly lr times the decay."""
    params = draw(0)
    zeros = {name: torch.zeros_like(param) for name, param in params.items()}
    decays = decay_by_name(params, 0.5)
    new, _ = adamw_step(params, zeros, adamw_init(params), lr=0.5, weight_decay=decays)
    assert decays == {"matrix": 0.5, "gain": 0.0, "scalar": 0.0}
    assert_equal(new, {**params, "matrix": 0.75 * params["matrix"]})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_stay(dtype):
    """A float64 learning rate does not promote parameters or moments."""
    params = draw(0, dtype)
    rate = torch.tensor(0.1, dtype=torch.float64)
    new, state = adamw_step(params, draw(1, dtype), adamw_init(params), rate)
    for tensor in (*new.values(), *state.exp_avg.values(), *state.exp_avg_sq.values()):
        assert tensor.dtype == dtype
    assert state.step.dtype == torch.int64


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": -1.0},
        {"weight_decay": -0.1},
        {"weight_decay": {"gain": -0.1}},
    ],
)
def test_hyperparameters_outside_their_range_are_refused(bad):
    """A hyperparameter for which the equation means nothing is named in the error."""
    params = draw(0)
    with pytest.raises(InputError, match=next(iter(bad))):
        adamw_step(params, draw(1), adamw_init(params), **bad)


def test_names_must_agree():
    """A gradient or a decay of an unknown parameter is an error that names it, never ignored."""
    params = draw(0)
    with pytest.raises(ValueError, match="extra"):
        adamw_step(params, {**draw(1), "extra": torch.ones(1)}, adamw_init(params))
    with pytest.raises(ValueError, match="typo"):
        adamw_step(params, draw(1), adamw_init(params), weight_decay={"typo": 0.1})


@pytest.mark.slow
def test_compiles_once_for_all_steps():
    """Compiled, neither the step nor a learning rate in a tensor makes it compile again."""
    counter = CompileCounter()
    compiled = torch.compile(adamw_step, backend=counter, fullgraph=True)
    params = eager = draw(0)
    state = eager_state = adamw_init(params)
    for k in range(1, 6):
        rate = torch.tensor(0.1 / k, dtype=torch.float64)
        params, state = compiled(params, draw(k), state, rate, apply=torch.tensor(k != 3))
        eager, eager_state = adamw_step(
            eager, draw(k), eager_state, rate, apply=torch.tensor(k != 3)
        )
    assert counter.frame_count == 1
    assert_equal(params, eager)
