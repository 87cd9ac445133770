"""Attention in tiles: the same numbers, by a backward pass of its own, never S×T of them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lmcore.errors import InputError
from lmcore.model.flash_attention import flash_attention
from tests.lmcore.model.choices import tensor

# float64 sums of a few dozen terms.
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


def fused(q, k, v, is_causal):
    """PyTorch's, in float64."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def strided(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the last two axes swapped in memory."""
    return x.mT.contiguous().mT


@settings(deadline=None, max_examples=80)
@given(
    lead=st.sampled_from([(), (2,), (2, 3)]),
    s=st.integers(1, 11),
    t=st.integers(1, 11),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    blocks=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    is_causal=st.booleans(),
    contiguous=st.booleans(),
)
def test_tiles_equal_the_whole(lead, s, t, widths, blocks, is_causal, contiguous):
    """Value and gradients for any shape, block size and strides, under torch.func.grad too."""
    shapes = (*lead, s, widths[0]), (*lead, t, widths[0]), (*lead, t, widths[1])
    inputs = tuple(tensor(*shape, seed=i) for i, shape in enumerate(shapes))
    if not contiguous:
        inputs = tuple(strided(x) for x in inputs)
    weights = tensor(*lead, s, widths[1], seed=9)

    def ours(q, k, v):
        out = flash_attention(
            q, k, v, is_causal=is_causal, query_block=blocks[0], key_block=blocks[1]
        )
        return (out * weights).sum(), out

    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = fused(*leaves, is_causal)
    gradients = torch.autograd.grad((expected * weights).sum(), leaves)
    by_autograd = torch.autograd.grad(ours(*leaves)[0], leaves)
    by_transform, out = torch.func.grad(ours, argnums=(0, 1, 2), has_aux=True)(*inputs)
    torch.testing.assert_close(out, expected.detach(), **EXACT)
    for want, one, other in zip(gradients, by_autograd, by_transform, strict=True):
        torch.testing.assert_close(one, want, **EXACT)
        torch.testing.assert_close(other, want, **EXACT)


@pytest.mark.parametrize("is_causal", [False, True])
def test_first_and_second_derivatives_are_those_of_finite_differences(is_causal):
    """gradcheck and gradgradcheck, with tiles that do not divide the lengths."""
    inputs = [tensor(2, 5, 3, seed=i).requires_grad_() for i in range(3)]

    def run(q, k, v):
        return flash_attention(q, k, v, is_causal=is_causal, query_block=3, key_block=2)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("in_dims", [(0, 0, 1), (0, None, None), (None, 0, 1)])
def test_vmap_is_a_loop(in_dims):
    """Mapping over an axis of any of the inputs equals calling for each, gradients included."""
    q, k, v = tensor(3, 5, 4), tensor(3, 6, 4, seed=1), tensor(6, 3, 4, seed=2)
    shared = [q[0], k[0], v[:, 0]]
    inputs = [s if d is None else x for x, s, d in zip((q, k, v), shared, in_dims, strict=True)]

    def gradient(q, k, v):
        run = torch.func.grad(
            lambda q: (flash_attention(q, k, v, query_block=2, key_block=4) ** 2).sum()
        )
        return run(q)

    mapped = torch.vmap(gradient, in_dims=in_dims)(*inputs)
    for i in range(3):
        one = [x if d is None else x.select(d, i) for x, d in zip(inputs, in_dims, strict=True)]
        torch.testing.assert_close(mapped[i], gradient(*one), **EXACT)


class Greatest(TorchDispatchMode):
    """The size of the greatest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, tuple | list) else (out,):
            if isinstance(item, torch.Tensor):
                self.numel = max(self.numel, item.numel())
        return out


@pytest.mark.parametrize("is_causal", [False, True])
def test_no_tensor_of_all_scores_is_ever_made(is_causal):
    """Forward and backward, nothing is larger than an input, though S² is 64 times that."""
    leaves = [tensor(512, 8, seed=i).requires_grad_() for i in range(3)]
    with Greatest() as greatest:
        out = flash_attention(*leaves, is_causal=is_causal, query_block=32, key_block=32)
        torch.autograd.grad(out.sum(), leaves)
    assert greatest.numel == 512 * 8
    with Greatest() as naive:
        torch.softmax(leaves[0] @ leaves[1].mT, -1)
    assert naive.numel == 512 * 512  # the measure sees what it should


def test_only_the_log_sum_exp_is_kept_beside_inputs_and_output():
    """The backward pass starts from S·(K + 1) numbers more than the inputs."""
    saved = []
    leaves = [tensor(64, 8, seed=i).requires_grad_() for i in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()), torch.ones):
        flash_attention(*leaves, query_block=16, key_block=16)
    assert sorted(saved) == [64, *[64 * 8] * 4]


def kept_for_a_second_derivative(n: int) -> int:
    """Numbers that a recorded backward pass keeps, as `torch.func.grad` always records it."""
    saved = []
    leaves = [tensor(n, 8, seed=i).requires_grad_() for i in range(3)]

    def keep(x: torch.Tensor) -> torch.Tensor:
        saved.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = flash_attention(*leaves, query_block=16, key_block=16)
        torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
    return sum(saved)


def test_a_recorded_backward_pass_keeps_as_many_numbers_as_the_sequence_is_long():
    """Eight times the length, eight times the numbers: no tile of weights is among them."""
    assert kept_for_a_second_derivative(512) == 8 * kept_for_a_second_derivative(64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_out_in_float32(dtype):
    """The output is the float64 one rounded once, even for scores far above the softmax's."""
    q, k, v = (tensor(2, 96, 16, seed=i, dtype=dtype) * 4 for i in range(3))
    out = flash_attention(q, k, v, is_causal=True, query_block=32, key_block=32)
    assert out.dtype == dtype
    expected = fused(q.double(), k.double(), v.double(), True)
    # One rounding of values up to 12.
    torch.testing.assert_close(out.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_great_scores_do_not_overflow():
    """Scores of ten thousand, rising from tile to tile, stay finite."""
    q, v = torch.full((4, 1), 100.0), tensor(8, 2, dtype=torch.float32)
    k = torch.arange(0.0, 800.0, 100.0)[:, None]
    out = flash_attention(q, k, v, query_block=2, key_block=2)
    torch.testing.assert_close(out, v[-1:].expand(4, 2))


# Dynamo itself instantiates autograd.Function, which PyTorch warns about.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_backward_pass_survives_compiling_under_a_transform():
    """Released versions have dropped such backward passes silently; ours equals the eager one."""
    torch._dynamo.reset()
    inputs = [tensor(4, 3, seed=i) for i in range(3)]

    def loss(q, k, v):
        out = flash_attention(q, k, v, is_causal=True, query_block=3, key_block=2)
        return (out * tensor(4, 3, seed=9)).sum()

    gradient = torch.func.grad(loss, argnums=(0, 1, 2))
    compiled = torch.compile(gradient, backend="aot_eager")(*inputs)
    for got, want in zip(compiled, gradient(*inputs), strict=True):
        torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize(
    ("shapes", "blocks", "told"),
    [
        (((2, 4), (3, 2, 4), (2, 4)), (2, 2), "leading axes"),
        (((2, 4), (2, 3), (2, 4)), (2, 2), "last axis"),
        (((2, 4), (3, 4), (2, 4)), (2, 2), "the one before"),
        (((2, 4), (0, 4), (0, 4)), (2, 2), "at least one key"),
        (((2, 4), (2, 4), (2, 4)), (0, 2), "query_block is 0"),
        (((2, 4), (2, 4), (2, 4)), (2, -1), "key_block is -1"),
    ],
)
def test_what_does_not_fit_is_told(shapes, blocks, told):
    """Shapes and blocks that make no sense are the user's errors."""
    q, k, v = (torch.ones(shape) for shape in shapes)
    with pytest.raises(InputError, match=told):
        flash_attention(q, k, v, query_block=blocks[0], key_block=blocks[1])
