"""The loss of a batch and its gradient, whatever it is cut into."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.transformer import forward
from lmcore.training.gradient import compute_dtype, loss_and_gradients, micro_batches
from lmcore.training.loss import IGNORE, cross_entropy

MODEL = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_layers=1, n_heads=2)
ONE = torch.tensor(1.0)


def params_and_batch(seed: int = 0, size: int = 5, model: ModelConfig = MODEL):
    """A float64 model and a batch with padding of a different length in each row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, (size, 9), generator=generator)
    targets = ids[:, 1:].clone()
    for row in range(size):
        targets[row, 8 - row % 4 :] = IGNORE
    params = {k: v.double() for k, v in init_params(model, seed).items()}
    return params, (ids[:, :-1], targets)


def differentiate(params, batch, precision="float32", scale=ONE, model=MODEL, **options):
    """The function under test with its defaults."""
    return loss_and_gradients(
        params, batch, model=model, precision=precision, loss_scale=scale, **options
    )


def plain(params, batch, model=MODEL):
    """The oracle: one loss over the whole batch, by the tape."""
    leaves = {name: param.clone().requires_grad_() for name, param in params.items()}
    loss = cross_entropy(forward(leaves, model, batch[0]), batch[1])
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return loss.detach(), dict(zip(leaves, grads, strict=True))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 100), parts=st.integers(1, 5), chunk=st.integers(0, 9))
def test_accumulation_equals_the_whole_batch(seed, parts, chunk):
    """Micro-batches of unequal token counts add up to the loss and gradient of the whole batch."""
    params, batch = params_and_batch(seed)
    got = differentiate(params, batch, n_micro_batches=parts, loss_chunk_tokens=chunk)
    # float64 sums in another order
    torch.testing.assert_close(got, plain(params, batch), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [0, 3])
def test_tied_embeddings_get_both_gradients(chunk):
    """With one matrix at both ends its gradient is the sum of the two, chunked or not."""
    model = ModelConfig(
        vocab_size=11, context_length=8, d_model=8, n_layers=1, n_heads=2, tie_embeddings=True
    )
    params, batch = params_and_batch(model=model)
    got = differentiate(params, batch, model=model, loss_chunk_tokens=chunk)
    torch.testing.assert_close(got, plain(params, batch, model), rtol=1e-10, atol=1e-12)


def test_ranks_add_up_to_the_whole_batch():
    """Two ranks with unequal token counts, reduced by a sum, both hold the whole batch's result."""
    params, batch = params_and_batch()
    halves = [(batch[0][:2], batch[1][:2]), (batch[0][2:], batch[1][2:])]

    def tokens_of(half):
        return (half[1] != IGNORE).sum()

    def first_reduce(tree):
        return {"tokens": sum(map(tokens_of, halves))} if "tokens" in tree else tree

    parts = [differentiate(params, half, reduce=first_reduce) for half in halves]
    loss = sum(part[0] for part in parts)
    grads = {name: sum(part[1][name] for part in parts) for name in params}
    torch.testing.assert_close((loss, grads), plain(params, batch), rtol=1e-10, atol=1e-12)


def test_reduce_sees_tokens_then_loss_and_gradients():
    """Each rank reduces twice, in the same order: the count, then all else in one dict."""
    params, batch = params_and_batch()
    seen = []

    def double(tree):
        seen.append(set(tree))
        return {name: 2 * tensor for name, tensor in tree.items()}

    # Two ranks that hold the same batch: twice the sums over twice the tokens.
    got = differentiate(params, batch, reduce=double)
    torch.testing.assert_close(got, plain(params, batch), rtol=1e-10, atol=1e-12)
    assert seen == [{"tokens"}, {"/loss", *params}]


def test_the_loss_scale_cancels():
    """In float16 the scale lifts the backward pass and is divided out: a power of two is exact."""
    params, batch = params_and_batch()
    params = {name: param.float() for name, param in params.items()}
    results = [
        differentiate(params, batch, "float16", torch.tensor(scale)) for scale in (1.0, 256.0)
    ]
    assert results[0][0] == results[1][0]
    for name, grad in results[0][1].items():
        # float16 has 11 bits; small gradients lose some of them at scale 1
        torch.testing.assert_close(grad, results[1][1][name], rtol=2e-2, atol=1e-4)
        assert grad.dtype == torch.float32


def test_the_loss_scale_saves_gradients_that_float16_cannot_hold():
    """Gradients below float16's smallest number vanish unscaled and survive scaled."""
    params, batch = params_and_batch()
    params = {name: param.float() for name, param in params.items()}
    params["lm_head.weight"] = params["lm_head.weight"] * 1e-6  # so that little flows back
    name = "layers.0.ffn.w1.weight"
    expected = differentiate(params, batch)[1][name]
    unscaled, scaled = (
        differentiate(params, batch, "float16", torch.tensor(scale))[1][name]
        for scale in (1.0, 2.0**14)
    )
    assert torch.linalg.vector_norm(unscaled - expected) > 0.5 * torch.linalg.vector_norm(expected)
    assert torch.linalg.vector_norm(scaled - expected) < 0.1 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize("chunk", [0, 4])
def test_bfloat16_is_near_float32_and_keeps_master_dtypes(chunk):
    """Mixed precision rounds the products only: the gradients are float32 and close."""
    params, batch = params_and_batch()
    params = {name: param.float() for name, param in params.items()}
    loss, grads = differentiate(params, batch, "bfloat16", loss_chunk_tokens=chunk)
    expected, expected_grads = differentiate(params, batch)
    # bfloat16 has 8 bits: 0.4% a product, a few of them in a row
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert loss != expected
    for name, grad in grads.items():
        assert grad.dtype == torch.float32
        error = torch.linalg.vector_norm(grad - expected_grads[name])
        assert error < 0.05 * torch.linalg.vector_norm(expected_grads[name]) + 1e-3


@pytest.mark.parametrize("n", [0, 4])
def test_impossible_splits_are_refused(n):
    """More parts than sequences, or none, is an error that names the flag."""
    ids = torch.zeros(3, 2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"--training\.batch-size"):
        list(micro_batches((ids, ids), n))


@pytest.mark.parametrize("precision", ["auto", "float8"])
def test_precision_must_be_resolved(precision):
    """A step does not guess the precision."""
    with pytest.raises(InputError, match=precision):
        compute_dtype(precision)
