"""The lean twin gives what `torch.func` gives, bit for bit, and keeps less on the way."""

from functools import partial

import pytest
import torch

from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.optimizer.fused_adamw import fused_adamw_step
from lmcore.params import flatten
from lmcore.training.config import TrainingConfig
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_layers=2, n_heads=2)
TIED = ModelConfig(
    vocab_size=11, context_length=8, d_model=8, n_layers=1, n_heads=2, tie_embeddings=True
)
LEAN = partial(loss_and_gradients, differentiate=grad_and_value)


def batch_of(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(11, (size, 9), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def assert_same_bits(found: dict, wanted: dict) -> None:
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
        assert not found[name].requires_grad


@pytest.mark.parametrize("model", [MODEL, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gradients_are_those_of_torch_func(model, parts, chunk, precision):
    """Loss and every gradient, in every precision, plain and in chunks, whole and in parts."""
    options = {"model": model, "precision": precision, "loss_scale": torch.tensor(8.0)}
    options |= {"n_micro_batches": parts, "loss_chunk_tokens": chunk}
    params, batch = init_params(model, 1), batch_of(4)
    wanted_loss, wanted = loss_and_gradients(params, batch, **options)
    loss, found = LEAN(params, batch, **options)
    assert torch.equal(loss, wanted_loss)
    assert_same_bits(found, wanted)
    assert not any(param.requires_grad for param in params.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fifty_steps_are_the_same(precision):
    """Parameters, moments and counters after fifty steps have the same bits."""
    training = TrainingConfig(
        tokens=50 * 32, batch_size=4, warmup_steps=5, max_lr=1e-2, precision=precision
    )
    states = []
    for options in ({}, {"loss_and_gradients": LEAN, "in_place": True}):
        state = init_state(MODEL, training)
        for step in range(50):
            state, metrics = train_step(
                state, batch_of(4, step), model=MODEL, training=training, **options
            )
            assert metrics["finite"]
        states.append(flatten(state))
    assert_same_bits(states[1], states[0])


def test_fifty_steps_of_all_tricks_are_near_those_of_the_readable_step():
    """As runs step on a CPU: also a loss in chunks and the fused update, which round otherwise.

    At 1e-2 a parameter moves by up to half in fifty steps. A rounding of 1e-7 of a gradient moves
    Adam's quotient as much, and grows as the steps feed on it; 1e-4 is the bound that is promised.
    """
    training = TrainingConfig(
        tokens=50 * 32, batch_size=4, warmup_steps=5, max_lr=1e-2, precision="float32"
    )
    tricks = {"loss_and_gradients": LEAN, "adamw": fused_adamw_step, "in_place": True}
    wanted, found = init_state(MODEL, training), init_state(MODEL, training)
    for step in range(50):
        both = {"model": MODEL, "training": training}
        wanted, expected = train_step(wanted, batch_of(4, step), **both)
        found, metrics = train_step(found, batch_of(4, step), **both, **tricks, loss_chunk_tokens=5)
        torch.testing.assert_close(metrics["loss"], expected["loss"], rtol=1e-5, atol=0)
    for name, tensor in wanted.params.items():
        torch.testing.assert_close(found.params[name], tensor, rtol=0, atol=1e-4)


def test_a_parameter_that_is_not_read_has_a_zero_gradient():
    """As from `torch.func`: zeros, not an error and not None."""
    params = {"w": torch.tensor([3.0]), "unused": torch.ones(2)}
    gradient = grad_and_value(lambda p, x: (p["w"].sum() * x, x), has_aux=True)
    grads, (value, _) = gradient(params, torch.tensor(2.0))
    assert_same_bits(grads, {"w": torch.tensor([2.0]), "unused": torch.zeros(2)})
    assert value == 6.0


def test_gradients_are_taken_where_they_are_switched_off():
    """The caller's `no_grad` is no reason to fail."""
    options = {"model": MODEL, "precision": "float32", "loss_scale": torch.tensor(1.0)}
    params, batch = init_params(MODEL, 1), batch_of(2)
    with torch.no_grad():
        _, found = LEAN(params, batch, **options)
    assert_same_bits(found, loss_and_gradients(params, batch, **options)[1])


def test_the_extra_is_not_optional():
    """What has no extra would give another shape of result."""
    with pytest.raises(ValueError, match="has_aux is False"):
        grad_and_value(lambda p, x: (p["w"].sum(), x), has_aux=False)
