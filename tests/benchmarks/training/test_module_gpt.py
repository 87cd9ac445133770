"""The module GPT: the same function as lmcore's model, and GPT-2."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.training.module_gpt import FaithfulGPT, NanoGPT, module_params, module_stepper
from lmcore.errors import InputError
from lmcore.model.config import FeedForward, ModelConfig
from lmcore.model.init import init_params
from lmcore.params import Params, map_params
from lmcore.training.config import TrainingConfig
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(
    vocab_size=31, context_length=12, d_model=16, n_layers=2, n_heads=2, d_ff=24, norm="rms_norm"
)
TRAINING = TrainingConfig(
    tokens=8 * 4 * 12,
    batch_size=4,
    warmup_steps=3,
    max_lr=0.02,
    weight_decay=0.3,
    max_grad_norm=0.5,
    precision="float32",
)
ONE = torch.tensor(1.0)

both_layers = pytest.mark.parametrize("feed_forward", ["gelu", "swiglu"])


def batch(step: int) -> tuple[Tensor, Tensor]:
    """The batch of a step."""
    ids = torch.randint(31, (4, 13), generator=torch.Generator().manual_seed(step))
    return ids[:, :-1], ids[:, 1:]


def faithful(params: Params, model: ModelConfig) -> FaithfulGPT:
    """The module with lmcore's parameters, in their dtype."""
    module = FaithfulGPT(model).to(params["lm_head.weight"].dtype)
    module.load_state_dict(module_params(map_params(torch.clone, params), model), strict=True)
    return module


@both_layers
def test_faithful_has_our_loss_and_gradients(feed_forward: FeedForward) -> None:
    """In float64 the loss is ours within 1e-12, and every gradient within 1e-12 of its norm."""
    model = replace(MODEL, feed_forward=feed_forward)
    params = map_params(Tensor.double, init_params(model, seed=1))
    loss, grads = loss_and_gradients(
        params, batch(0), model=model, precision="float32", loss_scale=ONE
    )
    module = faithful(params, model)
    found = module(*batch(0))
    found.backward()
    assert abs(found.item() - loss.item()) <= 1e-12
    expected = module_params(grads, model)
    names = dict(module.named_parameters())
    assert names.keys() == expected.keys()
    for name, param in names.items():
        assert param.grad is not None
        # Sums of a few hundred terms of float64, in another order.
        assert (param.grad - expected[name]).norm() <= 1e-12 * expected[name].norm(), name


@both_layers
def test_faithful_trains_as_we_do(feed_forward: FeedForward) -> None:
    """Eight steps in float64, clipped and with decay, have our losses and norms within 1e-9."""
    model = replace(MODEL, feed_forward=feed_forward)
    state = init_state(model, TRAINING)
    params = map_params(Tensor.double, state.params)
    moments = {
        name: map_params(Tensor.double, getattr(state.optimizer, name))
        for name in ("exp_avg", "exp_avg_sq")
    }
    state = state._replace(params=params, optimizer=state.optimizer._replace(**moments))
    step = module_stepper(faithful(params, model), TRAINING, model.context_length)
    for index in range(8):
        state, metrics = train_step(state, batch(index), model=model, training=TRAINING)
        # AdamW's first steps divide by the gradient, which enlarges differences of 1e-15 in it.
        loss, norm = step(*batch(index))
        assert loss.item() == pytest.approx(metrics["loss"].item(), abs=1e-9)
        assert norm.item() == pytest.approx(metrics["grad_norm"].item(), abs=1e-9)
        assert metrics["grad_norm"] > TRAINING.max_grad_norm  # or clipping was not compared


def test_faithful_refuses_what_it_does_not_compute() -> None:
    """A configuration of another architecture is refused, every difference named."""
    with pytest.raises(InputError, match=r"norm is 'layer_norm', tie_embeddings is True"):
        FaithfulGPT(replace(MODEL, norm="layer_norm", tie_embeddings=True))


def test_nanogpt_has_the_parameters_of_gpt_2() -> None:
    """GPT-2's sizes give the 124M parameters of nanoGPT's README, without the biases."""
    gpt2 = ModelConfig(
        vocab_size=50_257, context_length=1_024, d_model=768, n_layers=12, n_heads=12
    )
    with torch.device("meta"):
        n_params = sum(param.numel() for param in NanoGPT(gpt2).parameters())
    # 50,257 and 1,024 rows of 768, twelve blocks of 12 matrices of 768², 25 gains of 768.
    assert n_params == (50_257 + 1_024) * 768 + 12 * 12 * 768**2 + 25 * 768


def test_nanogpt_learns() -> None:
    """Forty steps on one batch bring the loss from that of a uniform guess far below it."""
    torch.manual_seed(0)
    training = replace(TRAINING, tokens=40 * 4 * 12)
    step = module_stepper(NanoGPT(MODEL), training, MODEL.context_length)
    losses = [step(*batch(0))[0].item() for _ in range(40)]
    assert losses[0] == pytest.approx(torch.tensor(31.0).log().item(), abs=0.1)
    assert losses[-1] < 1.5
