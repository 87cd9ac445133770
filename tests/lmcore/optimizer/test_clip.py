"""Clipping by the global norm against PyTorch's."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.optimizer.clip import clip_by_global_norm


def gradients(seed: int, scale: float, dtype: torch.dtype = torch.float64):
    """Gradients of several shapes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (4, 3), "b": (7,), "c": ()}
    return {k: scale * torch.randn(s, generator=generator, dtype=dtype) for k, s in shapes.items()}


@settings(deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-4, 1e4), max_norm=st.floats(1e-3, 1e3))
def test_equals_torch_clip_grad_norm(seed, scale, max_norm):
    """Gradients and norm are those of torch.nn.utils.clip_grad_norm_."""
    grads = gradients(seed, scale)
    leaves = {name: torch.nn.Parameter(grad.clone()) for name, grad in grads.items()}
    for name, leaf in leaves.items():
        leaf.grad = grads[name].clone()
    expected = torch.nn.utils.clip_grad_norm_(leaves.values(), max_norm)
    clipped, norm = clip_by_global_norm(grads, max_norm)
    torch.testing.assert_close(norm, expected, rtol=1e-14, atol=0)
    # Theirs also shrinks a norm within 1e-6 below the maximum, by less than 1e-6 of the maximum.
    border = 1e-6 / max_norm if max_norm - 1e-6 <= expected <= max_norm else 0.0
    for name, leaf in leaves.items():
        torch.testing.assert_close(clipped[name], leaf.grad, rtol=1e-13 + border, atol=0)


def test_below_the_maximum_no_bit_changes():
    """Gradients with a norm below the maximum come back with the same bits, in new tensors."""
    grads = gradients(0, 1.0)
    clipped, norm = clip_by_global_norm(grads, norm_of(grads) + 1e-9)
    assert norm.item() == pytest.approx(norm_of(grads), rel=1e-15)
    for name, grad in grads.items():
        torch.testing.assert_close(clipped[name], grad, rtol=0, atol=0)
        assert clipped[name] is not grad


def test_known_answer_with_the_assignments_epsilon():
    """At norm 5 and maximum 1 the factor is 1 / (5 + 1e-6)."""
    clipped, _ = clip_by_global_norm({"w": torch.tensor([3.0, 4.0], dtype=torch.float64)}, 1.0)
    assert clipped["w"].tolist() == pytest.approx([3 / 5.000001, 4 / 5.000001], rel=1e-15)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_norm_tells_of_any_bad_gradient(bad):
    """One bad entry anywhere makes the norm not finite, with clipping on or off."""
    for name in ("a", "b", "c"):
        grads = gradients(0, 1.0)
        grads[name].view(-1)[-1] = bad
        for max_norm in (1.0, math.inf):
            assert not torch.isfinite(clip_by_global_norm(grads, max_norm)[1])


def test_an_infinite_maximum_clips_nothing():
    """With no maximum, gradients keep their bits, however large."""
    grads = gradients(0, 1e30)
    clipped, _ = clip_by_global_norm(grads, math.inf)
    for name, grad in grads.items():
        torch.testing.assert_close(clipped[name], grad, rtol=0, atol=0)


def test_no_gradients_and_low_precision():
    """Nothing has norm zero; a bfloat16 gradient keeps its dtype, and its norm is float32."""
    assert clip_by_global_norm({}, 1.0)[1] == 0
    clipped, norm = clip_by_global_norm({"w": torch.full((4,), 2.0, dtype=torch.bfloat16)}, 1.0)
    assert clipped["w"].dtype == torch.bfloat16
    assert norm.dtype == torch.float32
    assert norm == 4.0


def norm_of(grads) -> float:
    """The global norm by Python floats."""
    return math.sqrt(math.fsum(x * x for grad in grads.values() for x in grad.reshape(-1).tolist()))
