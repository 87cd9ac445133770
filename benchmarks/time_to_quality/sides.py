"""Who is compared: our settings, and the recipe's."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

Who = Literal["lmcore", "recipe"]


@dataclass(frozen=True)
class Side:
    """A way to train.

    Example:
      >>> recipe(context_length=64, vocab_size=2048).name
      'recipe, context 64'
    """

    name: str
    who: Who
    model: ModelConfig
    training: TrainingConfig


def recipe(context_length: int, vocab_size: int) -> Side:
    """nanoGPT's recipe for a laptop's CPU, from its public description.

    Four layers of 128 with four heads, GPT-2's architecture without biases, head and embeddings
    tied, no dropout; 12 windows a step, drawn anywhere; AdamW at 1e-3 down to 1e-4 by a cosine over
    the whole run after 100 steps of warm-up, betas 0.9 and 0.99, decay 0.1, gradients clipped to 1.

    References:
      Karpathy, 2022, nanoGPT, its readme and the configuration for characters of Shakespeare.
    """
    model = ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=128,
        n_layers=4,
        n_heads=4,
        norm="layer_norm",
        positions="none",
        tie_embeddings=True,
    )
    training = TrainingConfig(
        batch_size=12,
        max_lr=1e-3,
        min_lr_ratio=0.1,
        warmup_steps=100,
        beta2=0.99,
        weight_decay=0.1,
        precision="float32",
    )
    return Side(f"recipe, context {context_length}", "recipe", model, training)


@dataclass(frozen=True)
class Attempt:
    """A training run of so many seconds."""

    side: Side
    streams: str
    """File of `benchmarks.time_to_quality.texts.write_streams`."""
    seconds: float
    """Of training: making batches and steps, and nothing else."""
    seed: int
    threads: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def from_json(values: dict[str, Any]) -> Attempt:
    """What `Attempt.to_json` gave.

    Example:
      >>> attempt = Attempt(recipe(64, 2048), "file.npz", 300.0, seed=0, threads=2)
      >>> from_json(attempt.to_json()) == attempt
      True
    """
    side = values["side"]
    model, training = ModelConfig(**side["model"]), TrainingConfig(**side["training"])
    return Attempt(**{**values, "side": Side(**{**side, "model": model, "training": training})})


@dataclass
class Result:
    """What came out.

    Attributes:
      steps: made, as many as a trial of a few said would fit.
      seconds: they took.
      epochs: times that the training text was seen.
      tune: bits a byte on the part on which settings are chosen.
      report: bits a byte on the other part.
    """

    steps: int
    seconds: float
    epochs: float
    tune: float
    report: float
    facts: dict[str, Any] = field(default_factory=dict)
