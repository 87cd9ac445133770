"""The work of the benchmarks: a model and a batch under each name.

Sizes count parameters outside the embeddings, as the presets do.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
PRECISION: dict[Device, Precision] = {"cpu": "float32", "cuda": "bfloat16"}


@dataclass(frozen=True)
class Case:
    """A model to train, and how much of it at a time.

    Example:
      >>> CASES["1m"].batch_size["cpu"]
      8
    """

    model: ModelConfig
    """Its shape; the vocabulary is filled in."""
    batch_size: dict[Device, int]
    """Sequences in a step; fewer on a CPU, where a step of the larger batch takes minutes."""
    steps: dict[Device, int]
    """Steps in a block: a second or so on a GPU, a few seconds on two CPU cores."""


_TINYSTORIES = ModelConfig(vocab_size=10_000, context_length=256, d_model=128, n_layers=5)

CASES: dict[str, Case] = {
    "tiny": Case(
        ModelConfig(vocab_size=64, context_length=16, d_model=16, n_layers=1, n_heads=2),
        {"cpu": 2, "cuda": 2},
        {"cpu": 20, "cuda": 20},
    ),
    # The model of the preset tinystories.
    "1m": Case(_TINYSTORIES, {"cpu": 8, "cuda": 64}, {"cpu": 8, "cuda": 100}),
    # The model of the preset tinystories-small.
    "10m": Case(
        replace(_TINYSTORIES, d_model=384, n_layers=6, n_heads=6),
        {"cpu": 8, "cuda": 64},
        {"cpu": 2, "cuda": 50},
    ),
    # Model and batch of the presets cs336 and, on a CPU, cs336-cpu.
    "cs336": Case(
        replace(
            _TINYSTORIES, d_model=512, d_ff=1_344, n_layers=4, n_heads=16, feed_forward="swiglu"
        ),
        {"cpu": 32, "cuda": 128},
        {"cpu": 1, "cuda": 25},
    ),
    # Long context and large vocabulary: attention and the logits weigh more.
    "50m": Case(
        ModelConfig(vocab_size=32_000, context_length=1_024, d_model=512, n_layers=16, n_heads=8),
        {"cpu": 2, "cuda": 16},
        {"cpu": 1, "cuda": 15},
    ),
    # Model and batch of the preset tinystories-base; a quarter of the batch on a CPU.
    "tinystories-base": Case(
        replace(_TINYSTORIES, context_length=512, d_model=640, n_layers=10, n_heads=10),
        {"cpu": 16, "cuda": 64},
        {"cpu": 1, "cuda": 15},
    ),
}


def training_of(
    case: Case, device: Device, batch_size: int = 0, precision: Precision | None = None
) -> TrainingConfig:
    """The settings of the training run that both sides do the first steps of.

    Args:
      case: its batch is taken.
      device: which batch.
      batch_size: another batch; 0 takes the case's.
      precision: of the matrix products; None takes float32 on a CPU, bfloat16 on a GPU.

    Example:
      >>> training_of(CASES["cs336"], "cuda").batch_size
      128
    """
    return TrainingConfig(
        tokens=100_000_000,
        batch_size=batch_size or case.batch_size[device],
        warmup_steps=200,
        precision=precision or PRECISION[device],
    )
