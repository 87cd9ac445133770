"""What a device computes is what the definition says, within its dtype's rounding."""

import pytest
import torch
from torch import Tensor

from lmcore.generation.generate import generate
from lmcore.model.attention import fused_attention, scaled_dot_product_attention
from lmcore.model.flash_attention import flash_attention
from lmcore.model.init import init_params
from lmcore.model.transformer import forward
from lmcore.params import map_params
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.loss import chunked_cross_entropy, cross_entropy
from tests.gpu.tasks import MODEL, apart, batch

# Differences as a share of the largest number. float32 has 24 bits: a few hundred terms in another
# order cost 3 or 4 of them; products in TF32, of 11 bits, would be 1e-3 apart and be found.
FLOAT32 = 1e-5
# Gradients pass through twice as many products.
FLOAT32_GRADIENT = 5e-5
# The definition in float64, of inputs already rounded: weights and outputs are rounded to 8 or 11
# bits on their way, once or twice.
ROUNDED = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: FLOAT32_GRADIENT}


def test_forward_is_that_of_float64(device: str) -> None:
    """Logits in float32, TF32 off, are those of float64 on the CPU."""
    params = init_params(MODEL, seed=0)
    exact = forward(map_params(Tensor.double, params), MODEL, batch(0, "cpu")[0])
    found = forward(
        map_params(lambda tensor: tensor.to(device), params), MODEL, batch(0, device)[0]
    )
    assert found.dtype == torch.float32
    assert apart(found, exact) < FLOAT32


def test_gradients_are_those_of_float64(device: str) -> None:
    """Loss and gradients in float32 are those of float64 on the CPU, for every parameter."""
    params = init_params(MODEL, seed=0)
    settings = {"model": MODEL, "precision": "float32"}
    one = torch.tensor(1.0)
    exact_loss, exact = loss_and_gradients(
        map_params(Tensor.double, params), batch(0, "cpu"), loss_scale=one, **settings
    )
    loss, found = loss_and_gradients(
        map_params(lambda tensor: tensor.to(device), params),
        batch(0, device),
        loss_scale=one.to(device),
        **settings,
    )
    assert apart(loss, exact_loss) < FLOAT32
    for name, gradient in exact.items():
        assert apart(found[name], gradient) < FLOAT32_GRADIENT, name


@pytest.mark.parametrize("dtype", list(ROUNDED), ids=str)
@pytest.mark.parametrize("attention", [fused_attention, flash_attention])
@pytest.mark.parametrize("length", [64, 100])
def test_attention_is_the_definition(device: str, attention, dtype: torch.dtype, length: int):
    """Value and gradients of PyTorch's kernel and of the tiles are those of the definition."""
    generator = torch.Generator().manual_seed(length)
    inputs = [torch.randn(2, 3, length, 32, generator=generator).to(dtype) for _ in range(3)]
    weights = torch.randn(2, 3, length, 32, generator=generator).to(dtype)

    def value_and_gradients(function, cast) -> list[Tensor]:
        leaves = [cast(tensor) for tensor in inputs]

        def loss(*leaves: Tensor) -> tuple[Tensor, Tensor]:
            out = function(*leaves, is_causal=True)
            return (out * cast(weights)).sum(), out

        gradients, out = torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True)(*leaves)
        return [out, *gradients]

    exact = value_and_gradients(scaled_dot_product_attention, Tensor.double)
    found = value_and_gradients(attention, lambda tensor: tensor.to(device))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == dtype
        assert apart(ours, theirs) < ROUNDED[dtype]


@pytest.mark.parametrize("chunk_tokens", [50, 512])
def test_chunked_loss_is_the_plain_one(device: str, chunk_tokens: int) -> None:
    """Without ever holding all logits, value and gradients stay those of the plain loss."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 48, generator=generator).to(device)
    head = torch.randn(500, 48, generator=generator).to(device)
    targets = torch.randint(0, 500, (300,), generator=generator)
    targets[::7] = -100
    targets = targets.to(device)

    def plain(hidden: Tensor, head: Tensor) -> Tensor:
        return cross_entropy(hidden @ head.T, targets)

    def chunked(hidden: Tensor, head: Tensor) -> Tensor:
        return chunked_cross_entropy(hidden, head, targets, chunk_tokens=chunk_tokens)

    expected, expected_loss = torch.func.grad_and_value(plain, argnums=(0, 1))(hidden, head)
    found, loss = torch.func.grad_and_value(chunked, argnums=(0, 1))(hidden, head)
    assert apart(loss, expected_loss) < FLOAT32
    for ours, theirs in zip(found, expected, strict=True):
        assert apart(ours, theirs) < FLOAT32_GRADIENT


@pytest.mark.parametrize("prompt", [[1], [5, 6, 7], [[3, 4], [90, 2]]], ids=str)
def test_greedy_text_is_the_cpus(device: str, prompt: list) -> None:
    """Every device writes the text that the CPU writes, beyond the context too."""
    params = init_params(MODEL, seed=3)  # no two greatest logits nearer than 6e-3
    expected = generate(params, MODEL, prompt, 80, temperature=0.0)
    moved = map_params(lambda tensor: tensor.to(device), params)
    assert generate(moved, MODEL, prompt, 80, temperature=0.0) == expected
