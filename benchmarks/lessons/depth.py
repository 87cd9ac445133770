"""Why the norm stands before each layer: an untrained model's stream and gradients, by depth.

B batch · S sequence · D d_model.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.lessons.accounting import markdown
from lmcore.model.block import transformer_block
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value

MODEL = ModelConfig(
    vocab_size=256, context_length=64, d_model=64, n_layers=12, n_heads=4, feed_forward="swiglu"
)
CHOICES: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "post-norm": {"norm_position": "post"},
    "no norm": {"norm": "none"},
}
DEPTHS = (3, 12, 48)


class Untrained(NamedTuple):
    """What was seen of a model without training, a number a layer.

    Attributes:
      stream: root mean square of the residual stream after the layer.
      gradients: norm of the gradient of the layer's matrices.
    """

    stream: list[float]
    gradients: list[float]


def look(model: ModelConfig, seed: int = 0) -> Untrained:
    """One batch of random ids through a model and back."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.vocab_size, (4, model.context_length + 1), generator=generator)
    stream: list[float] = []
    _, grads = loss_and_gradients(
        init_params(model, seed),
        (ids[:, :-1], ids[:, 1:]),
        model=model,
        precision="float32",
        loss_scale=torch.tensor(1.0),
        block=watched(stream),
        differentiate=grad_and_value,
    )
    by_layer = [
        [g for name, g in grads.items() if name.startswith(f"layers.{layer}.") and g.ndim == 2]
        for layer in range(model.n_layers)
    ]
    return Untrained(stream, [float(sum(g.square().sum() for g in one)) ** 0.5 for one in by_layer])


def watched(stream: list[float]) -> Callable[..., Tensor]:
    """A block that notes the root mean square of what it returns."""

    def block(*args: Any, **kwargs: Any) -> Tensor:
        y = transformer_block(*args, **kwargs)  # [B, S, D]
        stream.append(float(y.detach().square().mean().sqrt()))
        return y

    return block


def table() -> str:
    """A row a choice: the stream at the end, and the gradient of the last layer, by depth."""
    rows = []
    for name, choice in CHOICES.items():
        found = [look(replace(MODEL, n_layers=n, **choice)) for n in DEPTHS]
        numbers = [one.stream[-1] for one in found] + [one.gradients[-1] for one in found]
        rows.append([name, *(f"{number:.2g}" for number in numbers)])
    head = ["", *(f"stream, {n} layers" for n in DEPTHS)]
    return markdown([*head, *(f"gradient, {n} layers" for n in DEPTHS)], rows)
