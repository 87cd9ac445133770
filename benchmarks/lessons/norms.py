"""Which norm, where, and with which warm-up: small models trained on bytes of the stories."""

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.lessons.accounting import markdown
from lmcore.model.config import ModelConfig
from lmcore.synthetic.stories import stories
from lmcore.training.config import TrainingConfig
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(
    vocab_size=256, context_length=64, d_model=48, n_layers=8, n_heads=4, feed_forward="swiglu"
)
STEPS, BATCH = 80, 8
TRAINING = TrainingConfig(
    tokens=STEPS * BATCH * MODEL.context_length,
    batch_size=BATCH,
    max_lr=1e-2,
    warmup_steps=30,
    precision="float32",
)


class Trial(NamedTuple):
    """A model and its training."""

    name: str
    model: dict[str, Any]
    warmup_steps: int


TRIALS = (
    Trial("RMSNorm, pre", {}, 30),
    Trial("LayerNorm, pre", {"norm": "layer_norm"}, 30),
    Trial("no norm", {"norm": "none"}, 30),
    Trial("RMSNorm, post", {"norm_position": "post"}, 30),
    Trial("RMSNorm, pre", {}, 1),
    Trial("RMSNorm, post", {"norm_position": "post"}, 1),
)


def batch_of_bytes(step: int) -> tuple[Tensor, Tensor]:
    """The bytes of stories in a row; each step has its own stories.

    Example:
      >>> [tuple(ids.shape) for ids in batch_of_bytes(0)]
      [(8, 64), (8, 64)]
    """
    length = MODEL.context_length + 1
    rows = [text.encode()[:length] for text in stories(0, step * BATCH, BATCH)]
    ids = torch.tensor([list(row) for row in rows])
    return ids[:, :-1], ids[:, 1:]


def losses(trial: Trial, steps: int = STEPS) -> list[float]:
    """The training loss of every step, nats a byte; it ends where one is not finite."""
    model = replace(MODEL, **trial.model)
    training = replace(TRAINING, warmup_steps=trial.warmup_steps)
    state, found = init_state(model, training), []
    for step in range(steps):
        state, metrics = train_step(
            state,
            batch_of_bytes(step),
            model=model,
            training=training,
            loss_and_gradients=partial(loss_and_gradients, differentiate=grad_and_value),
            in_place=True,
        )
        found.append(float(metrics["loss"]))
        if not math.isfinite(found[-1]):
            break
    return found


def table() -> str:
    """A row a trial: the loss at the start, and the mean of the last ten steps."""
    rows = []
    for trial in TRIALS:
        found = losses(trial)
        numbers = (found[0], sum(found[-10:]) / len(found[-10:]))
        rows.append([trial.name, str(trial.warmup_steps), *(f"{n:.3g}" for n in numbers)])
    return markdown(["", "warm-up", "first loss", "mean of the last ten"], rows)
