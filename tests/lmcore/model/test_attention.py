"""Attention by definition, fused and tiled against PyTorch's; the layer around them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.model.attention import (
    fused_attention,
    multi_head_attention,
    scaled_dot_product_attention,
)
from lmcore.model.flash_attention import flash_attention
from lmcore.model.positions import rotary_tables
from tests.lmcore.model.choices import tensor

check = settings(deadline=None, max_examples=40)
sizes = st.integers(1, 7)
leading = st.sampled_from([(), (2,), (2, 3)])

# float64 sums of a few dozen terms.
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}
ATTENTIONS = {
    "naive": lambda q, k, v, *, is_causal: scaled_dot_product_attention(q, k, v, None, is_causal),
    "fused": fused_attention,
    "flash": lambda q, k, v, *, is_causal: flash_attention(
        q, k, v, is_causal=is_causal, query_block=3, key_block=2
    ),
}


def value_and_gradients(function: Callable[..., torch.Tensor], *inputs: torch.Tensor):
    """The output, and each input's gradient for a random weighting of the outputs."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    return out, *torch.autograd.grad((out * tensor(*out.shape, seed=9)).sum(), leaves)


def same(ours, theirs, *inputs):
    """Equal outputs and gradients."""
    for got, want in zip(
        value_and_gradients(ours, *inputs), value_and_gradients(theirs, *inputs), strict=True
    ):
        torch.testing.assert_close(got, want, **EXACT)


@check
@given(leading, sizes, sizes, sizes, sizes, st.booleans())
def test_the_definition_equals_pytorchs(lead, s, t, width, value_width, is_causal):
    """Value and gradients, for any leading axes, other numbers of keys, and a value width."""
    same(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=is_causal),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal),
        tensor(*lead, s, width),
        tensor(*lead, t, width, seed=1),
        tensor(*lead, t, value_width, seed=2),
    )


@check
@given(leading, sizes, sizes, st.data())
def test_a_mask_is_true_where_a_query_may_look(lead, s, t, data):
    """Any mask, rows that see nothing included, in value and gradient; those rows are zero."""
    rows = st.lists(st.lists(st.booleans(), min_size=t, max_size=t), min_size=s, max_size=s)
    mask = torch.tensor(data.draw(rows))
    inputs = tensor(*lead, s, 4), tensor(*lead, t, 4, seed=1), tensor(*lead, t, 4, seed=2)
    same(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, mask),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        *inputs,
    )
    blind = ~mask.any(-1)
    assert not scaled_dot_product_attention(*inputs, mask)[..., blind, :].any()


def test_a_mask_and_causality_must_both_allow():
    """Together they equal the mask of their conjunction."""
    q, k, v = (tensor(5, 4, seed=i) for i in range(3))
    mask = tensor(5, 5, seed=3) > 0
    both = scaled_dot_product_attention(q, k, v, mask & torch.ones_like(mask).tril())
    assert torch.equal(scaled_dot_product_attention(q, k, v, mask, is_causal=True), both)


def test_a_mask_of_numbers_is_refused():
    """Adding a mask is not offered, so a float mask is an error and not a surprise."""
    x = tensor(2, 2)
    with pytest.raises(InputError, match="bool"):
        scaled_dot_product_attention(x, x, x, torch.zeros(2, 2))


@check
@given(st.sampled_from(list(ATTENTIONS)), st.integers(1, 3), sizes, st.integers(1, 3))
def test_the_layer_equals_pytorchs_multihead_attention(kind, batch, length, n_heads):
    """With each inner attention, the layer equals nn.MultiheadAttention with a causal mask."""
    d = 4 * n_heads
    x = tensor(batch, length, d)
    weights = [tensor(d, d, seed=i) for i in range(1, 5)]

    def theirs(x, q, k, v, o):
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        by_time = x.transpose(0, 1)
        out, _ = F.multi_head_attention_forward(
            by_time, by_time, by_time, d, n_heads, torch.cat((q, k, v)), None, None, None, False,
            0.0, o, None, attn_mask=mask, need_weights=False,
        )  # fmt: skip
        return out.transpose(0, 1)

    same(
        lambda x, q, k, v, o: multi_head_attention(
            x, q, k, v, o, n_heads, attention=ATTENTIONS[kind]
        ),
        theirs,
        x,
        *weights,
    )


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_every_inner_attention_gives_the_same_layer_with_rotation(layout):
    """Naive, fused and flash agree in value and gradient behind RoPE."""
    inputs = [tensor(2, 6, 8), *(tensor(8, 8, seed=i) for i in range(1, 5))]
    results = [
        value_and_gradients(
            lambda x, q, k, v, o, f=attention: multi_head_attention(
                x, q, k, v, o, 2, rotary=rotary_tables(4, 6), layout=layout, attention=f
            ),
            *inputs,
        )
        for attention in ATTENTIONS.values()
    ]
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, want, **EXACT)


def test_rotation_acts_on_queries_and_keys_but_not_on_values():
    """With one key, the output is its value whatever the position: values are not turned."""
    x, eye = tensor(1, 1, 4), torch.eye(4, dtype=torch.float64)
    out = multi_head_attention(
        x, eye, eye, eye, eye, 1, rotary=rotary_tables(4, 9), positions=torch.tensor([7])
    )
    torch.testing.assert_close(out, x, **EXACT)


def test_normalised_queries_and_keys_make_the_size_of_their_matrices_irrelevant():
    """Only directions and gains count: matrices a thousand times as large give the same scores."""
    x, gains = tensor(2, 6, 8), torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    weights = [tensor(8, 8, seed=i) for i in range(1, 5)]
    options = {"rotary": rotary_tables(4, 6), "q_norm": gains, "k_norm": gains}
    expected = multi_head_attention(x, *weights, 2, **options)
    large = multi_head_attention(x, 1e3 * weights[0], 1e3 * weights[1], *weights[2:], 2, **options)
    # the norms' 1e-5, beside mean squares of about 8, is what the size still changes
    torch.testing.assert_close(large, expected, rtol=1e-3, atol=1e-4)
    other = multi_head_attention(x, *weights, 2, **{**options, "q_norm": gains.flip(0)})
    assert not torch.allclose(other, expected, rtol=1e-2)


def test_heads_must_divide_the_width():
    """Three heads cannot share eight dimensions."""
    eye = torch.eye(8)
    with pytest.raises(InputError, match=r"d_model is 8: .* n_heads \(3\)"):
        multi_head_attention(torch.ones(1, 2, 8), eye, eye, eye, eye, 3)


@pytest.mark.parametrize("given", ["q_norm", "k_norm"])
def test_one_gain_alone_is_refused(given: str) -> None:
    """Queries and keys are normalised together or not at all."""
    eye = torch.eye(4)
    with pytest.raises(InputError, match="q_norm and k_norm go together"):
        multi_head_attention(eye[None], eye, eye, eye, eye, 2, **{given: torch.ones(2)})


def test_attention_is_float32_on_a_cpu_whatever_the_matrices():
    """Between half-precision products a CPU mixes in float32, and float64 stays what it is."""
    seen = []

    def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
        seen.extend(t.dtype for t in (q, k, v))
        return v

    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        eye = torch.eye(4, dtype=dtype)
        mixed = multi_head_attention(eye[None], eye, eye, eye, eye, 2, attention=mix)
        assert seen == [wide] * 3
        assert mixed.dtype == dtype
        seen.clear()
