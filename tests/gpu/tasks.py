"""What the tests of this folder compute: a small model, a text that it can learn, how far apart."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lmcore.model.config import ModelConfig
from lmcore.model.positions import model_rotary_tables
from lmcore.params import Params
from lmcore.training.config import Precision, TrainingConfig
from lmcore.training.step import train_step

MODEL = ModelConfig(
    vocab_size=128, context_length=64, d_model=64, n_layers=2, n_heads=2, feed_forward="swiglu"
)


def training(precision: Precision) -> TrainingConfig:
    return TrainingConfig(
        tokens=200 * 8 * 64, batch_size=8, warmup_steps=5, max_lr=3e-3, precision=precision
    )


def new_step(device: str, precision: Precision, **settings: Any):
    """A training step of the small model; it needs no more than state and batch."""
    rotary = model_rotary_tables(MODEL, device=device)
    config = training(precision)
    return partial(train_step, model=MODEL, training=config, rotary=rotary, **settings)


def batch(index: int, device: str, rows: int = 8) -> tuple[Tensor, Tensor]:
    """Texts that count upwards by one, two or three; others at every index."""
    row = torch.arange(rows)[:, None]
    ids = (row * 17 + index * 29 + torch.arange(65) * (1 + row % 3)) % MODEL.vocab_size
    return ids[:, :-1].contiguous().to(device), ids[:, 1:].contiguous().to(device)


def rows_for(device: str) -> int:
    """Sequences of a batch; on CUDA so many that kernels for large inputs run too.

    The gradient of an embedding has another kernel from 3,073 tokens on.
    """
    return 64 if device == "cuda" else 8


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).abs().max() / expected.abs().max())


def differing(left: Params, right: Params) -> list[str]:
    """Names of the tensors of which a number differs, at all; two that are no number are alike."""
    assert left.keys() == right.keys()
    return [name for name in left if not same(left[name].cpu(), right[name].cpu())]


def same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers."""
    return bool(torch.isclose(left, right, rtol=0, atol=0, equal_nan=True).all())
