"""The layers against PyTorch's own and against their formulas."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from lmcore.model import layers
from tests.lmcore.model.choices import tensor

sizes = st.integers(1, 9)
leading = st.lists(st.integers(1, 3), max_size=3).map(tuple)
check = settings(deadline=None, max_examples=40)

# float64 sums of at most some hundred terms, each wrong by 1e-16.
EXACT: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}


def same_values_and_gradients(ours, theirs, *inputs):
    """Equal outputs, and equal gradients of every input, for a random weighting of outputs."""
    inputs = [x.requires_grad_() for x in inputs]
    out, expected = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(out, expected, **EXACT)
    weights = tensor(*expected.shape, seed=99)
    for got, want in zip(
        torch.autograd.grad((out * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, want, **EXACT)


@check
@given(leading, sizes, sizes)
def test_linear_is_pytorchs(shape, d_in, d_out):
    """`linear` equals F.linear, in value and gradient, for any leading axes."""
    same_values_and_gradients(
        layers.linear, F.linear, tensor(*shape, d_in), tensor(d_out, d_in, seed=1)
    )


def test_linear_follows_the_dtype_of_the_matrix():
    """A bfloat16 matrix makes the product bfloat16, whatever the input is."""
    out = layers.linear(torch.ones(3), torch.ones(2, 3, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16


@check
@given(leading, sizes, sizes)
def test_embedding_looks_rows_up_and_adds_gradients_of_equal_ids(shape, vocab_size, width):
    """Rows by id; the gradient of a row is the sum over the places of its id."""
    weight = tensor(vocab_size, width).requires_grad_()
    ids = torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(0))
    out = layers.embedding(ids, weight)
    assert torch.equal(out, weight[ids])
    weights = tensor(*out.shape, seed=2)
    (gradient,) = torch.autograd.grad((out * weights).sum(), weight)
    expected = torch.zeros_like(weight).index_add(0, ids.flatten(), weights.view(-1, width))
    torch.testing.assert_close(gradient, expected, **EXACT)


def test_embedding_refuses_an_id_outside_the_table():
    """An id beyond the vocabulary is an error on the CPU."""
    with pytest.raises(IndexError):
        layers.embedding(torch.tensor([3]), torch.ones(3, 2))


@check
@given(leading, sizes, st.sampled_from([1e-5, 1e-2]))
def test_rms_norm_is_pytorchs(shape, width, eps):
    """`rms_norm` equals F.rms_norm, in value and gradient."""
    same_values_and_gradients(
        lambda x, w: layers.rms_norm(x, w, eps),
        lambda x, w: F.rms_norm(x, (width,), w, eps),
        tensor(*shape, width),
        tensor(width, seed=1),
    )


@check
@given(leading, st.integers(2, 9), st.sampled_from([1e-5, 1e-2]))
def test_layer_norm_is_pytorchs(shape, width, eps):
    """`layer_norm` equals F.layer_norm, in value and gradient."""
    same_values_and_gradients(
        lambda x, w, b: layers.layer_norm(x, w, b, eps),
        lambda x, w, b: F.layer_norm(x, (width,), w, b, eps),
        tensor(*shape, width),
        tensor(width, seed=1),
        tensor(width, seed=2),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm", "softmax"])
def test_half_precision_is_worked_out_in_float32(kind, dtype):
    """The result is the float64 one rounded once to half precision, but for a last bit."""
    x = (100 * tensor(4, 512)).to(dtype)  # squares pass 65,504, the end of float16
    ones, zeros = torch.ones(512), torch.zeros(512)
    apply = {
        "rms_norm": lambda x: layers.rms_norm(x, ones),
        "layer_norm": lambda x: layers.layer_norm(x, ones, zeros),
        "softmax": lambda x: layers.softmax(x / 16),
    }[kind]
    out = apply(x)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.double(), apply(x.double()), rtol=1.01 * torch.finfo(dtype).eps, atol=1e-7
    )


def test_norms_survive_vectors_without_a_length():
    """A zero vector stays zero, and a constant one becomes the bias."""
    assert torch.equal(layers.rms_norm(torch.zeros(3), torch.ones(3)), torch.zeros(3))
    bias = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(layers.layer_norm(torch.full((3,), 7.0), torch.ones(3), bias), bias)


def test_silu_and_gelu_are_their_formulas():
    """x·sigmoid(x), and x times the normal distribution function by math.erf."""
    x = torch.linspace(-9, 9, 181, dtype=torch.float64)
    silu = [v / (1 + math.exp(-v)) for v in x.tolist()]
    gelu = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    # 1 + erf loses digits where erf is near -1; the products there are below 1e-16.
    torch.testing.assert_close(layers.silu(x), torch.tensor(silu, dtype=x.dtype), **EXACT)
    torch.testing.assert_close(layers.gelu(x), torch.tensor(gelu, dtype=x.dtype), **EXACT)


def test_relu2_is_zero_then_a_square():
    """Known values, and a slope that is continuous at zero."""
    x = torch.tensor([-2.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    assert layers.relu2(x).tolist() == [0.0, 0.0, 0.25, 9.0]
    assert torch.func.vmap(torch.func.grad(layers.relu2))(x).tolist() == [0.0, 0.0, 1.0, 6.0]


@check
@given(leading, sizes, sizes, st.sampled_from(["gelu", "silu"]))
def test_feed_forward_is_two_matrices_with_an_activation_between(shape, width, inner, kind):
    """`feed_forward` equals PyTorch's functions, in value and gradient."""
    same_values_and_gradients(
        lambda x, w1, w2: layers.feed_forward(x, w1, w2, getattr(layers, kind)),
        lambda x, w1, w2: F.linear(getattr(F, kind)(F.linear(x, w1)), w2),
        tensor(*shape, width),
        tensor(inner, width, seed=1),
        tensor(width, inner, seed=2),
    )


@check
@given(leading, sizes, sizes)
def test_swiglu_gates_with_its_first_matrix(shape, width, inner):
    """`swiglu` is w2(silu(w1 x) * w3 x): the roles of w1 and w3 are not exchanged."""
    same_values_and_gradients(
        layers.swiglu,
        lambda x, w1, w2, w3: F.linear(F.silu(F.linear(x, w1)) * F.linear(x, w3), w2),
        tensor(*shape, width),
        tensor(inner, width, seed=1),
        tensor(width, inner, seed=2),
        tensor(inner, width, seed=3),
    )


@check
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), st.data())
def test_softmax_is_pytorchs_along_any_axis(shape, data):
    """`softmax` equals F.softmax, in value and gradient."""
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    same_values_and_gradients(
        lambda x: layers.softmax(x, dim), lambda x: F.softmax(x, dim), 5 * tensor(*shape)
    )


def test_softmax_does_not_overflow_and_forbids_minus_infinity():
    """Great scores stay finite, a shift changes nothing, minus infinity has probability 0."""
    x = torch.tensor([0.0, 1.0, float("-inf")], dtype=torch.float64)
    out = layers.softmax(x + 1e5)
    assert out[2] == 0
    torch.testing.assert_close(out, F.softmax(x, -1), rtol=1e-9, atol=0)  # 1e5 + 1 loses 1e-11
    assert torch.equal(layers.softmax(torch.tensor([1e30, 0.0])), torch.tensor([1.0, 0.0]))
