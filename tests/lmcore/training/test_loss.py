"""The loss against PyTorch's, and the chunked one against the plain one."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from lmcore.training import loss
from lmcore.training.loss import (
    IGNORE,
    chunked_cross_entropy,
    chunked_nats,
    count_tokens,
    cross_entropy,
    token_nats,
)


def tensors(seed: int, n: int, d: int, v: int, dtype=torch.float64):
    """Hidden states, a head and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator, dtype=dtype)
    head = torch.randn(v, d, generator=generator, dtype=dtype)
    return hidden, head, torch.randint(v, (n,), generator=generator)


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 9),
    v=st.integers(1, 11),
    scale=st.sampled_from([1e-3, 1.0, 50.0, 1e4]),
    ignored=st.booleans(),
)
def test_equals_torch_cross_entropy(seed, n, v, scale, ignored):
    """Value and gradient are those of torch's, from tiny to extreme logits, padding or not."""
    hidden, _, targets = tensors(seed, n, v, v)
    targets[0] = IGNORE if ignored and n > 1 else targets[0]
    mine, theirs = (
        torch.func.grad_and_value(loss)(scale * hidden, targets)
        for loss in (cross_entropy, F.cross_entropy)
    )
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("extreme", [1e4, 1e30])
def test_extreme_logits_are_exact(extreme):
    """The loss of a sure miss is the logit's distance, and of a sure hit zero: nothing is infinite.

    Without the shift by the largest logit, exp(1e4) overflows and this is NaN.
    """
    logits = torch.tensor([[extreme, 0.0], [0.0, -extreme]])
    assert cross_entropy(logits, torch.tensor([0, 0])) == 0.0
    assert cross_entropy(logits, torch.tensor([1, 1])) == pytest.approx(extreme, rel=1e-7)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    """Equal logits over V tokens cost log V nats, whatever the leading shape."""
    loss = cross_entropy(torch.full((2, 3, 50), 7.0), torch.zeros(2, 3, dtype=torch.int64))
    assert loss.item() == pytest.approx(math.log(50), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Half-precision logits give the float32 loss of the same numbers."""
    hidden, _, targets = tensors(0, 5, 7, 7, torch.float32)
    logits = hidden.to(dtype)
    loss = cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits.float(), targets), rtol=0, atol=0)


def test_ignored_targets_neither_cost_nor_count():
    """Padding has cost 0 and gradient 0, is not in the mean, and alone makes a loss of 0."""
    hidden, _, targets = tensors(0, 4, 6, 6)
    padded = torch.cat([targets, torch.full((3,), IGNORE)])
    junk = torch.full((3, 6), math.nan, dtype=torch.float64)
    logits = torch.cat([hidden, junk])
    assert cross_entropy(logits, padded) == cross_entropy(hidden, targets)
    assert count_tokens(padded) == 4
    assert token_nats(logits, padded)[4:].tolist() == [0.0, 0.0, 0.0]
    assert cross_entropy(logits[4:], padded[4:]) == 0.0
    assert cross_entropy(hidden, targets.where(targets != 1, 1), ignore_index=1).isfinite()


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 12),
    d=st.integers(1, 5),
    v=st.integers(1, 9),
    chunk=st.integers(1, 14),
    scale=st.sampled_from([1.0, 100.0]),
)
def test_chunked_equals_plain(seed, n, d, v, chunk, scale):
    """Any chunk size gives the plain loss and the plain gradients of hidden states and head."""
    hidden, head, targets = tensors(seed, n, d, v)
    targets[n // 2] = IGNORE

    def plain(hidden, head):
        return 3.0 * cross_entropy(scale * hidden @ head.T, targets)

    def chunked(hidden, head):
        return 3.0 * chunked_cross_entropy(scale * hidden, head, targets, chunk_tokens=chunk)

    expected = torch.func.grad_and_value(plain, argnums=(0, 1))(hidden, head)
    for got in (
        torch.func.grad_and_value(chunked, argnums=(0, 1))(hidden, head),
        by_autograd(chunked, hidden, head),
    ):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


def by_autograd(loss, hidden, head):
    """Gradients and value by the tape instead of by torch.func."""
    leaves = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    value = loss(*leaves)
    return torch.autograd.grad(value, leaves), value.detach()


def test_chunked_keeps_leading_axes_and_dtypes():
    """Hidden states may have any leading axes; each gradient has its argument's dtype."""
    hidden, head, targets = tensors(0, 6, 4, 9, torch.float32)
    hidden = hidden.reshape(2, 3, 4).to(torch.bfloat16)
    targets = targets.reshape(2, 3)
    (d_hidden, d_head), loss = torch.func.grad_and_value(chunked_cross_entropy, argnums=(0, 1))(
        hidden, head, targets, chunk_tokens=4
    )
    logits = (hidden @ head.to(torch.bfloat16).T).float()
    # The logits are the same bfloat16 numbers; only the float32 sum is ordered differently.
    torch.testing.assert_close(loss, cross_entropy(logits, targets), rtol=1e-6, atol=0)
    assert (d_hidden.shape, d_hidden.dtype) == (hidden.shape, torch.bfloat16)
    assert (d_head.dtype, loss.dtype) == (torch.float32, torch.float32)


def test_chunked_gradients_survive_a_loss_scale_beyond_float16():
    """A scale too large for float16 still scales gradients that fit into it."""
    hidden, head, targets = tensors(0, 8, 4, 9, torch.float32)

    def scaled(hidden, scale, dtype):
        return scale * chunked_cross_entropy(hidden.to(dtype), 1e-3 * head, targets)

    scale = torch.tensor(2.0**20)  # over 8 tokens 131,072, and float16 ends at 65,504
    half = torch.func.grad(scaled)(hidden, scale, torch.float16) / scale
    # float16 has 11 bits: 0.05% a rounding
    torch.testing.assert_close(
        half,
        torch.func.grad(scaled)(hidden, torch.tensor(1.0), torch.float32),
        rtol=5e-3,
        atol=1e-7,
    )


def test_chunked_holds_no_full_logits():
    """No tensor as large as all the logits is made, forwards or backwards."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    hidden, head, targets = tensors(0, 64, 4, 32)
    leaves = hidden.requires_grad_(), head.requires_grad_()
    with Watch():
        torch.autograd.grad(chunked_nats(*leaves, targets, chunk_tokens=8), leaves)
    assert 0 < largest <= 8 * 32
    largest = 0
    with Watch():
        torch.autograd.grad(token_nats(hidden @ head.T, targets).sum(), leaves)
    assert largest == 64 * 32


def test_chunked_holds_one_table_of_a_chunk():
    """The softmax is written over the logits: one new table of that size for each chunk."""
    from torch.utils._python_dispatch import TorchDispatchMode

    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() == 8 * 32:
                made.append(out.untyped_storage().data_ptr())
            return out

    hidden, head, targets = tensors(0, 8, 4, 32)
    with Watch():
        chunked_nats(hidden, head, targets, chunk_tokens=8)
    assert len(set(made)) == 1


def test_chunked_refuses_a_second_backward_pass():
    """It is differentiable once: the tape, kept, does not give another gradient in silence."""
    hidden, head, targets = tensors(0, 8, 4, 9)
    leaves = hidden.requires_grad_(), head.requires_grad_()
    nats = chunked_nats(*leaves, targets)
    torch.autograd.grad(nats / 8, leaves, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(nats / 8, leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("widened", [1, 20, 33, 1_000])
def test_half_precision_is_widened_in_parts(dtype, widened, monkeypatch):
    """However few rows are float32 at once: nats of the float32 softmax, its gradient rounded once.

    The head is the unit matrix, so that the gradients of hidden states are those of the logits.
    """
    monkeypatch.setattr(loss, "_WIDENED", widened)
    logits = (4 * torch.randn(7, 9, generator=torch.Generator().manual_seed(0))).to(dtype)
    logits[2, 3], logits[4] = 90.0, 0.0  # a sure row and an even one
    targets = torch.tensor([0, 5, 3, IGNORE, 8, 1, 2])

    def chunked(hidden, head):
        return chunked_nats(hidden, head, targets, chunk_tokens=5)

    (d_logits, _), nats = by_autograd(chunked, logits, torch.eye(9))
    wide = logits.float().requires_grad_()
    total = token_nats(wide, targets).sum()
    (expected,) = torch.autograd.grad(total, wide)
    torch.testing.assert_close(nats, total.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(d_logits, expected.to(dtype), rtol=0, atol=0)


def test_shapes_that_do_not_fit_are_told():
    """A wrong shape is an error that shows the shapes, never a broadcast."""
    hidden, head, targets = tensors(0, 4, 3, 5)
    with pytest.raises(ValueError, match=r"\[4, 3\]"):
        cross_entropy(hidden, targets[:1])
    with pytest.raises(ValueError, match=r"\[5, 2\]"):
        chunked_cross_entropy(hidden, head[:, :2], targets)
    with pytest.raises(ValueError, match="chunk_tokens is 0"):
        chunked_cross_entropy(hidden, head, targets, chunk_tokens=0)
