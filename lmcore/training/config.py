"""What a training run means: the settings that decide the bits of its weights."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Layout = Literal["stream", "document"]
Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained; every field changes the weights or the record of the run.

    Example:
      >>> n_steps(TrainingConfig(tokens=1_000_000, batch_size=8), context_length=256)
      489
    """

    seed: int = 0
    """Decides the initial weights and the order of the batches."""
    tokens: int = 2_000_000
    """Tokens to train on in all, rounded up to whole steps; text is seen again when it runs out."""
    batch_size: int = 8
    """Sequences in one step, whatever number of micro-batches or processes share them."""
    layout: Layout = "document"
    """Where windows begin: every context-length tokens (stream), or also afresh at documents."""
    max_lr: float = 1e-3
    """Learning rate at the end of the warm-up, its highest."""
    min_lr_ratio: float = 0.1
    """Learning rate at the end of the run, as a share of max-lr."""
    warmup_steps: int = 100
    """Steps over which the learning rate grows from zero to max-lr."""
    beta1: float = 0.9
    """AdamW's memory of past gradients: 0.9 remembers about ten steps."""
    beta2: float = 0.95
    """AdamW's memory of past squared gradients: 0.95 remembers about twenty steps."""
    eps: float = 1e-8
    """AdamW's guard against division by zero."""
    weight_decay: float = 0.1
    """Pull of every matrix towards zero, a step, as a share of the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients whose joint norm is above this are scaled down to it; 0 turns clipping off."""
    dropout: float = 0.0
    """Share of the channels that the embedding and each layer write that a sequence goes without in
    a step, against overfitting where text is seen many times; 0 drops none."""
    optimizer: Optimizer = "adamw"
    """What moves the parameters: adamw all of them; muon the matrices of the blocks, and AdamW the
    embeddings, the head and the norms."""
    embedding_lr_ratio: float = 1.0
    """Learning rate of the token embeddings, as a multiple of max-lr. A row moves only in steps
    that see its token, so that small runs of small batches gained by 5."""
    muon_max_lr: float = 0.01
    """Muon's learning rate at the end of the warm-up; it follows the schedule of max-lr."""
    muon_momentum: float = 0.95
    """Muon's memory of past gradients: 0.95 remembers about twenty steps."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products; weights, norms, softmax and loss stay in float32."""
    max_bad_steps: int = 10
    """Steps in a row without a finite loss and gradient after which training stops or goes back."""
    max_rollbacks: int = 0
    """Times that training may go back to before a loss spike and past its data; 0 never does."""
    rollback_every: int = 100
    """Steps between the checkpoints that a rollback can go back to."""
    spike_steps: int = 5
    """Steps in a row with a loss far above the recent ones that make a spike."""
    spike_spreads: float = 8.0
    """How far above their median that is, in robust standard deviations of the recent losses."""
    validate_every: int = 200
    """Steps between two measurements of the validation loss; 0 measures at the end only."""


def n_steps(config: TrainingConfig, context_length: int) -> int:
    """Return the steps of the run: ``tokens / (batch_size * context_length)``, rounded up.

    Example:
      >>> n_steps(TrainingConfig(tokens=1025, batch_size=2), context_length=256)
      3
    """
    return -(-config.tokens // (config.batch_size * context_length))


def faults(config: TrainingConfig, context_length: int | None = None) -> list[str]:
    """Return everything that is wrong with the settings, as messages; an empty list is a pass.

    Args:
      config: the settings.
      context_length: where given, the warm-up is compared with the number of steps too.

    Example:
      >>> faults(TrainingConfig(batch_size=0))
      ['batch_size is 0: it must be at least 1; raise --training.batch-size']
    """
    found = [*_range_faults(config), *_choice_faults(config)]
    if not found and context_length is not None:
        steps = n_steps(config, context_length)
        if config.warmup_steps > steps:
            found.append(
                f"warmup_steps is {config.warmup_steps}, more than the {steps} steps of the run: "
                "lower --training.warmup-steps or raise --training.tokens"
            )
    return found


def _range_faults(config: TrainingConfig) -> list[str]:
    """Every number against the range in which it means something."""
    positive = math.ulp(0.0)
    rows = (
        ("tokens", 1, math.inf, "at least 1"),
        ("batch_size", 1, math.inf, "at least 1"),
        ("max_lr", positive, 1e6, "above 0 and at most 1e6"),
        ("min_lr_ratio", 0, 1, "from 0 to 1"),
        ("warmup_steps", 0, math.inf, "at least 0"),
        ("beta1", 0, 1 - 1e-9, "at least 0 and below 1"),
        ("beta2", 0, 1 - 1e-9, "at least 0 and below 1"),
        ("eps", positive, 1e6, "above 0 and at most 1e6"),
        ("weight_decay", 0, 1e6, "from 0 to 1e6"),
        ("embedding_lr_ratio", positive, 1e6, "above 0 and at most 1e6"),
        ("muon_max_lr", positive, 1e6, "above 0 and at most 1e6"),
        ("muon_momentum", 0, 1 - 1e-9, "at least 0 and below 1"),
        ("dropout", 0, 1 - 1e-9, "at least 0 and below 1"),
        ("max_grad_norm", 0, math.inf, "at least 0"),
        ("max_bad_steps", 1, math.inf, "at least 1"),
        ("max_rollbacks", 0, math.inf, "at least 0"),
        ("rollback_every", 1, math.inf, "at least 1"),
        ("spike_steps", 1, math.inf, "at least 1"),
        ("spike_spreads", 1, 1e6, "from 1 to 1e6"),
        ("validate_every", 0, math.inf, "at least 0"),
        ("seed", 0, 2**63 - 1, "from 0 to 2^63 - 1"),
    )
    found = []
    for name, low, high, expected in rows:
        value = getattr(config, name)
        if not low <= value <= high:  # also true of NaN
            way = "raise" if value < low else "lower" if value > high else "set"
            flag = f"--training.{name.replace('_', '-')}"
            found.append(f"{name} is {value}: it must be {expected}; {way} {flag}")
    return found


def _choice_faults(config: TrainingConfig) -> list[str]:
    """Every choice against its table (a file or a caller may bypass the typed command line)."""
    found = []
    tables = {"precision": Precision, "layout": Layout, "optimizer": Optimizer}
    for name, choices in ((name, get_args(table)) for name, table in tables.items()):
        value = getattr(config, name)
        if value not in choices:
            expected = ", ".join(choices)
            found.append(f"{name} is {value!r}: choose one of {expected} with --training.{name}")
    return found
