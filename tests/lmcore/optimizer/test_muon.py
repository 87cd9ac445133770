"""Muon against its definition by singular values, and the two ways of refusing and reusing."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from lmcore.errors import InputError
from lmcore.optimizer.muon import (
    COEFFICIENTS,
    N_ITERATIONS,
    MuonState,
    muon_init,
    muon_step,
    orthogonalise,
)

SHAPES = {"wide": (3, 7), "tall": (9, 4), "square": (5, 5), "row": (1, 6)}


def draw(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """One matrix of each shape, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in SHAPES.items()
    }


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """The same names and the same bits (NaN is not expected here)."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0)


def by_singular_values(matrix: Tensor) -> Tensor:
    """The oracle: decompose, send each singular value through the quintic, compose."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm().clamp(min=1e-20)
    a, b, c = COEFFICIENTS
    for _ in range(N_ITERATIONS):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ vh


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    rank=st.integers(0, 24),
    scale=st.sampled_from([1e-9, 1.0, 1e9]),
    seed=st.integers(0, 1000),
)
def test_orthogonalise_equals_its_definition_by_singular_values(rows, columns, rank, scale, seed):
    """The products do to the singular values what the quintic does, whatever shape, rank, scale."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    matrix = scale * left @ right
    # float64 rounds at 1e-16, and five iterations lift what is near zero 485 times
    torch.testing.assert_close(
        orthogonalise(matrix), by_singular_values(matrix), rtol=1e-10, atol=1e-11
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    # the range of the quintic on [0.0015, 1], and what products of 8 bits of mantissa add to it
    [(torch.float64, 0.68, 1.21), (torch.float32, 0.68, 1.21), (torch.bfloat16, 0.6, 1.3)],
)
@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
def test_the_update_is_nearly_orthogonal(shape, dtype, low, high):
    """Singular values from 1 down to 0.02 of the greatest come out near one, directions kept."""
    size = min(shape)
    u, _, vh = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        full_matrices=False,
    )
    matrix = u @ torch.diag(torch.logspace(0, math.log10(0.02), size, dtype=torch.float64)) @ vh
    found = orthogonalise(matrix, dtype)
    assert found.dtype == dtype
    values = torch.linalg.svdvals(found.double())
    assert low <= values.min()
    assert values.max() <= high
    # A cosine of vectors whose entries lie between 0.68 and 1.21 times those of the other is above
    # 2 √(0.68 · 1.21) / (0.68 + 1.21) = 0.96 (Kantorovich's inequality).
    cosine = (found.double() * (u @ vh)).sum() / (found.double().norm() * (u @ vh).norm())
    assert cosine > 0.96


def test_first_step_by_hand():
    """The first step from nothing is a known answer by arithmetic: decay, factor, direction."""
    params = {"w": torch.tensor([[3.0, 0.0, 0.0, 0.0]], dtype=torch.float64)}
    grads = {"w": torch.tensor([[0.0, 0.0, 0.5, 0.0]], dtype=torch.float64)}
    new, state = muon_step(params, grads, muon_init(params), 0.1, 0.9, 0.2)
    length = 1.0
    for _ in range(5):
        length = 3.4445 * length - 4.7750 * length**3 + 2.0315 * length**5
    # 0.2 √4 = 0.4
    expected = [3.0 * 0.98, 0.0, -0.1 * 0.4 * length, 0.0]
    assert new["w"][0].tolist() == pytest.approx(expected, rel=1e-12)
    assert state.momentum["w"][0].tolist() == pytest.approx([0.0, 0.0, 0.05, 0.0])


def test_equals_the_equations_over_steps():
    """Five steps equal the docstring's equations, with the oracle for the orthogonal part."""
    params = expected = draw(0)
    state = muon_init(params)
    velocity = {name: torch.zeros_like(param) for name, param in params.items()}
    for k in range(1, 6):
        grads = draw(k)
        params, state = muon_step(params, grads, state, 0.05, 0.8, 0.3)
        for name, grad in grads.items():
            velocity[name] = 0.8 * velocity[name] + 0.2 * grad
            direction = by_singular_values(0.8 * velocity[name] + 0.2 * grad)
            factor = 0.2 * math.sqrt(max(grad.shape))
            moved = (1 - 0.05 * 0.3) * expected[name] - 0.05 * factor * direction
            expected = {**expected, name: moved}
    for name, param in params.items():
        torch.testing.assert_close(param, expected[name], rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(state.momentum[name], velocity[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(64, 64), (256, 32), (32, 256)])
def test_entries_of_an_update_are_as_large_for_every_shape(shape):
    """An update's root mean square is 0.2 of the learning rate, as far as it is orthogonal."""
    params = {"w": torch.zeros(shape)}
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    new, _ = muon_step(params, {"w": grad}, muon_init(params), 1.0)
    # between 0.68 and 1.21 of it, if no singular value is very small
    assert 0.68 * 0.2 < new["w"].square().mean().sqrt() < 1.21 * 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_gradients_leave_decay_alone(dtype):
    """A zero gradient makes a zero update, not a division by zero; only the decay is left."""
    params = draw(0, dtype)
    zeros = {name: torch.zeros_like(param) for name, param in params.items()}
    new, state = muon_step(params, zeros, muon_init(params), 0.5, weight_decay=0.5)
    assert_equal(new, {name: 0.75 * param for name, param in params.items()})
    assert_equal(state.momentum, zeros)


@pytest.mark.parametrize("apply", [None, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_place_gives_the_same_bits_in_the_same_memory(apply, dtype):
    """In place, the bits are those of new tensors, and nothing moves in memory."""
    flag = None if apply is None else torch.tensor(apply)
    pure = draw(0, dtype)
    mutated = {name: tensor.clone() for name, tensor in pure.items()}
    pure_state, mutated_state = muon_init(pure), muon_init(mutated)
    tensors = [*mutated.values(), *mutated_state.momentum.values()]
    addresses = [tensor.data_ptr() for tensor in tensors]
    for k in range(1, 4):
        grads = draw(k, dtype)
        pure, pure_state = muon_step(pure, grads, pure_state, 0.1, apply=flag)
        mutated, mutated_state = muon_step(
            mutated, grads, mutated_state, 0.1, apply=flag, in_place=True
        )
    assert_equal(pure, mutated)
    assert_equal(pure_state.momentum, mutated_state.momentum)
    tensors = [*mutated.values(), *mutated_state.momentum.values()]
    assert [tensor.data_ptr() for tensor in tensors] == addresses


def test_arguments_are_not_written_to():
    """Without ``in_place`` the caller's parameters, gradients and state stay as they are."""
    params, grads, state = draw(0), draw(1), MuonState(draw(2))
    muon_step(params, grads, state)
    for seed, now in enumerate((params, grads, state.momentum)):
        assert_equal(now, draw(seed))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_refused_step_changes_no_bit(in_place):
    """With ``apply`` False nothing moves, though every gradient is NaN."""
    params, state = draw(0), MuonState(draw(1))
    grads = {name: torch.full_like(param, math.nan) for name, param in params.items()}
    params, state = muon_step(params, grads, state, apply=torch.tensor(False), in_place=in_place)
    assert_equal(params, draw(0))
    assert_equal(state.momentum, draw(1))


@pytest.mark.parametrize("compute_dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_stay(dtype, compute_dtype):
    """Neither a float64 learning rate nor the products' dtype changes that of the results."""
    params = draw(0, dtype)
    rate = torch.tensor(0.1, dtype=torch.float64)
    new, state = muon_step(
        params, draw(1, dtype), muon_init(params), rate, compute_dtype=compute_dtype
    )
    assert {tensor.dtype for tensor in (*new.values(), *state.momentum.values())} == {dtype}


@pytest.mark.parametrize(
    "bad",
    [{"lr": -1.0}, {"lr": math.nan}, {"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -0.1}],
)
def test_hyperparameters_outside_their_range_are_refused(bad):
    """A hyperparameter for which the equation means nothing is named in the error."""
    params = draw(0)
    with pytest.raises(InputError, match=next(iter(bad))):
        muon_step(params, draw(1), muon_init(params), **bad)


def test_names_must_agree_and_be_of_matrices():
    """An unknown name or a vector is an error that names it, never ignored."""
    params = draw(0)
    with pytest.raises(ValueError, match="extra"):
        muon_step(params, {**draw(1), "extra": torch.ones(1, 1)}, muon_init(params))
    gains = {"gain": torch.ones(3)}
    with pytest.raises(ValueError, match="gain"):
        muon_step(gains, gains, muon_init(gains))


@pytest.mark.slow
def test_compiles_once_for_all_steps():
    """Compiled, neither the step nor a learning rate in a tensor makes it compile again."""
    counter = CompileCounter()
    compiled = torch.compile(muon_step, backend=counter, fullgraph=True)
    params = eager = draw(0)
    state = eager_state = muon_init(params)
    for k in range(1, 6):
        rate = torch.tensor(0.1 / k, dtype=torch.float64)
        params, state = compiled(params, draw(k), state, rate, apply=torch.tensor(k != 3))
        eager, eager_state = muon_step(
            eager, draw(k), eager_state, rate, apply=torch.tensor(k != 3)
        )
    assert counter.frame_count == 1
    assert_equal(params, eager)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_several_matrices_at_once_are_each_made_orthogonal(shape):
    """A stack gives what its matrices give one by one: the norm is each one's own."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    stack = torch.randn(3, *shape, generator=generator, dtype=torch.float64) * scales[:, None, None]
    found = orthogonalise(stack)
    for one, matrix in zip(found, stack, strict=True):
        torch.testing.assert_close(one, orthogonalise(matrix), rtol=1e-12, atol=1e-12)


def test_a_matrix_moves_as_if_it_were_alone():
    """Others of its shape, upright or lying, change nothing but the last bits."""
    shapes = {"a": (3, 5), "b": (5, 3), "c": (5, 3), "d": (4, 4)}
    generator = torch.Generator().manual_seed(0)
    params, grads = (
        {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
        for _ in range(2)
    )
    together, _ = muon_step(params, grads, muon_init(params), 0.1)
    for name in shapes:
        one = {name: params[name]}
        alone, _ = muon_step(one, {name: grads[name]}, muon_init(one), 0.1)
        torch.testing.assert_close(together[name], alone[name], rtol=1e-12, atol=1e-12)
