"""The assignment's optimizer tests by name: AdamW, the schedule, clipping, through public paths."""

import math

import pytest
import torch

from lmcore.optimizer.adamw import adamw_init, adamw_step
from lmcore.optimizer.clip import clip_by_global_norm
from lmcore.optimizer.schedule import cosine_schedule


def test_adamw():
    """A thousand steps on a small least-squares problem end where torch.optim.AdamW ends."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(3, 100, generator=generator, dtype=torch.float64)
    targets = torch.stack([inputs[0] + inputs[1], -inputs[2]])
    start = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    options = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}

    def loss(params):
        return ((targets - params["weight"] @ inputs) ** 2).mean()

    leaf = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([leaf], **options)
    params = {"weight": start}
    state = adamw_init(params)
    for _ in range(1000):
        optimizer.zero_grad()
        loss({"weight": leaf}).backward()
        optimizer.step()
        params, state = adamw_step(params, torch.func.grad(loss)(params), state, **options)
    # A thousand steps of float64 rounding, each about 1e-16.
    torch.testing.assert_close(params["weight"], leaf.detach(), rtol=1e-10, atol=1e-12)
    assert loss(params) < loss({"weight": start}) / 2


def test_get_lr_cosine_schedule():
    """Twenty-five steps with a warm-up of 7 and a cosine to 21: the values of the formula."""
    cosine = [math.cos(k * math.pi / 14) for k in range(15)]
    expected = [t / 7 for t in range(7)] + [0.1 + 0.45 * (1 + c) for c in cosine] + [0.1] * 3
    rates = [cosine_schedule(t, 1.0, 0.1, 7, 21) for t in range(25)]
    assert rates == pytest.approx(expected, rel=1e-15)


def test_gradient_clipping():
    """Six tensors are clipped together to a norm of 0.01 as torch.nn.utils does it."""
    generator = torch.Generator().manual_seed(0)
    grads = {str(k): torch.randn(5, 5, generator=generator) for k in range(6)}
    leaves = [torch.nn.Parameter(torch.zeros(5, 5)) for _ in grads]
    for leaf, grad in zip(leaves, grads.values(), strict=True):
        leaf.grad = grad.clone()
    torch.nn.utils.clip_grad_norm_(leaves, 0.01)
    clipped, _ = clip_by_global_norm(grads, 0.01)
    for leaf, grad in zip(leaves, clipped.values(), strict=True):
        # float32, whose sums are taken in different orders
        torch.testing.assert_close(grad, leaf.grad, rtol=1e-6, atol=0)
