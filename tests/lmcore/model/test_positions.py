"""Rotary position encoding: complex numbers as the oracle, relative position as the promise."""

import cmath

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.positions import apply_rotary_emb, model_rotary_tables, rotary_tables
from tests.lmcore.model.choices import tensor

check = settings(deadline=None, max_examples=40)
layouts = st.sampled_from(["half_split", "interleaved"])
half_dims = st.integers(1, 6)


def pairs(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The K/2 complex numbers of each vector."""
    k = x.shape[-1]
    if layout == "interleaved":
        return torch.complex(x[..., 0::2], x[..., 1::2])
    return torch.complex(x[..., : k // 2], x[..., k // 2 :])


@check
@given(half_dims, st.integers(1, 7), st.integers(1, 3), layouts, st.sampled_from([1e4, 7.0]))
def test_rotation_is_multiplication_by_a_complex_number(half, length, heads, layout, theta):
    """Pair i at position m is multiplied by exp(i·m·theta^(-2i/K))."""
    x = tensor(2, length, heads, 2 * half)
    out = pairs(apply_rotary_emb(x, *rotary_tables(2 * half, length, theta), layout=layout), layout)
    for m in range(length):
        for i in range(half):
            turn = cmath.exp(1j * m * theta ** (-i / half))
            # The tables are rounded to float32: 6e-8 of values of about 3.
            torch.testing.assert_close(
                out[:, m, :, i], pairs(x, layout)[:, m, :, i] * turn, rtol=2e-7, atol=2e-7
            )


@check
@given(half_dims, st.integers(0, 60), st.integers(0, 60), st.integers(0, 40), layouts)
def test_scores_depend_on_relative_position_only(half, m, n, shift, layout):
    """Moving query and key by the same distance leaves their product as it was."""
    tables = rotary_tables(2 * half, 101)
    q, k = tensor(1, 1, 1, 2 * half), tensor(1, 1, 1, 2 * half, seed=1)

    def score(a: int, b: int) -> torch.Tensor:
        turned = (
            apply_rotary_emb(x, *tables, layout=layout, positions=torch.tensor([at]))
            for x, at in ((q, a), (k, b))
        )
        return torch.mul(*turned).sum()

    # float32 tables: 6e-8 for each of 12 products of about 1.
    torch.testing.assert_close(score(m, n), score(m + shift, n + shift), rtol=0, atol=4e-6)


def test_scores_do_depend_on_the_distance():
    """The property above has teeth: another distance gives another product."""
    x = torch.ones(1, 8, 1, 2, dtype=torch.float64)
    turned = apply_rotary_emb(x, *rotary_tables(2, 8))[0, :, 0]
    products = turned[0] @ turned.T
    assert len({round(p, 6) for p in products.tolist()}) == 8


@check
@given(half_dims, st.integers(1, 7), layouts)
def test_lengths_are_kept(half, length, layout):
    """A rotation changes no vector's length."""
    x = tensor(2, length, 2, 2 * half)
    out = apply_rotary_emb(x, *rotary_tables(2 * half, length), layout=layout)
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)


@check
@given(half_dims, st.integers(1, 7))
def test_layouts_differ_by_a_permutation(half, length):
    """Taking the even dimensions before the odd ones turns one layout into the other."""
    x, tables = tensor(1, length, 2, 2 * half), rotary_tables(2 * half, length)
    order = torch.cat((torch.arange(0, 2 * half, 2), torch.arange(1, 2 * half, 2)))
    split = apply_rotary_emb(x[..., order], *tables)
    assert torch.equal(split, apply_rotary_emb(x, *tables, layout="interleaved")[..., order])


@check
@given(
    layouts, st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=2)
)
def test_positions_choose_the_rows(layout, rows):
    """Each token is turned by its own position, given once for all rows or for each."""
    x, tables = tensor(2, 3, 2, 4), rotary_tables(4, 10)
    each = apply_rotary_emb(x, *tables, layout=layout, positions=torch.tensor(rows))
    for b, row in enumerate(rows):
        shared = apply_rotary_emb(x, *tables, layout=layout, positions=torch.tensor(row))
        assert torch.equal(each[b], shared[b])
        for s, m in enumerate(row):
            long = x[b, s].expand(1, 10, 2, 4)
            assert torch.equal(each[b, s], apply_rotary_emb(long, *tables, layout=layout)[0, m])


def test_longer_tables_give_their_first_rows():
    """Tables of the whole context serve a shorter sequence."""
    x = tensor(1, 3, 1, 4)
    short, long = rotary_tables(4, 3), rotary_tables(4, 30)
    assert torch.equal(apply_rotary_emb(x, *short), apply_rotary_emb(x, *long))


def test_tables_are_right_to_the_last_bit_of_float32_far_out():
    """At position 10,007 they are float64 cosines rounded once."""
    cos, sin = rotary_tables(64, 10_008)
    angles = [10_007 * 10_000 ** (-2 * i / 64) for i in range(32)]
    turns = torch.tensor([[cmath.exp(1j * a).real, cmath.exp(1j * a).imag] for a in angles])
    torch.testing.assert_close(torch.stack((cos[-1], sin[-1]), -1), turns, rtol=0, atol=6e-8)


def test_the_dtype_of_the_input_stays():
    """Half precision is turned in float32 and rounded once."""
    x, tables = tensor(1, 5, 2, 4, dtype=torch.bfloat16), rotary_tables(4, 5)
    out = apply_rotary_emb(x, *tables)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, apply_rotary_emb(x.float(), *tables).bfloat16())


def test_tables_may_be_made_inside_a_transform():
    """Making and using tables under torch.func.grad gives autograd's gradient."""
    x = tensor(1, 5, 2, 4)

    def loss(x):
        return (apply_rotary_emb(x, *rotary_tables(4, 5)) ** 3).sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.func.grad(loss)(x)  # nothing kept from the first call may break the second


def test_a_model_without_positions_has_no_tables():
    """``positions="none"`` has nothing to turn."""
    assert model_rotary_tables(ModelConfig(positions="none")) is None


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: rotary_tables(3, 4), "head_dim is 3: it must be even"),
        (lambda: apply_rotary_emb(tensor(1, 2, 1, 3), *rotary_tables(4, 4)), "head_dim is 3"),
        (lambda: apply_rotary_emb(tensor(1, 2, 1, 8), *rotary_tables(4, 4)), r"\[S, 4\]"),
        (lambda: apply_rotary_emb(tensor(1, 5, 1, 4), *rotary_tables(4, 4)), "have 4 positions"),
    ],
)
def test_what_does_not_fit_is_told(call, told):
    """An odd head_dim and tables of the wrong size are the user's errors."""
    with pytest.raises(InputError, match=told):
        call()
