"""Three small experiments: rotary positions, accumulation, mixed precision.

B batch · S sequence · H heads · K head_dim.
"""

import torch
from torch import Tensor

from benchmarks.lessons.accounting import markdown
from benchmarks.lessons.depth import MODEL
from lmcore.model.init import init_params
from lmcore.model.positions import apply_rotary_emb, rotary_tables
from lmcore.params import Params
from lmcore.training.config import Precision
from lmcore.training.gradient import loss_and_gradients, micro_batches

SHIFTS = (0, 100, 1_000)
DISTANCES = (0, 1, 8, 64)


def scores(distance: int, shift: int, head_dim: int = 64) -> float:
    """The score of one query and one key, ``distance`` apart, the key at position ``shift``."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, head_dim, generator=generator)  # [B, S, H, K]
    tables = rotary_tables(head_dim, max(SHIFTS) + max(DISTANCES) + 1)
    q = apply_rotary_emb(query, *tables, positions=torch.tensor([shift + distance]))
    k = apply_rotary_emb(key, *tables, positions=torch.tensor([shift]))
    return float((q * k).sum() / head_dim**0.5)


def rope() -> str:
    """A row a distance, a column a position of the key."""
    rows = [
        [str(distance), *(f"{scores(distance, shift):.4f}" for shift in SHIFTS)]
        for distance in DISTANCES
    ]
    return markdown(["distance", *(f"key at {shift:,}" for shift in SHIFTS)], rows)


def gradients(precision: Precision, n_micro_batches: int = 1) -> tuple[float, Params]:
    """Loss and gradients of an untrained model on eight random sequences."""
    return _gradients(_batch(), precision, n_micro_batches)


def mean_of_means(n: int) -> Params:
    """What the gradients would be if every micro-batch weighed the same, whatever its size."""
    parts = [
        _gradients((inputs, targets), "float32", 1)[1]
        for inputs, targets in micro_batches(_batch(), n)
    ]
    return {name: torch.stack([one[name] for one in parts]).mean(0) for name in parts[0]}


def difference(found: Params, expected: Params) -> float:
    """Norm of the difference over the norm of what was expected.

    Example:
      >>> difference({"w": torch.tensor([1.1])}, {"w": torch.tensor([1.0])}) < 0.11
      True
    """
    error = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
    return (error / sum(float(grad.square().sum()) for grad in expected.values())) ** 0.5


def accumulation() -> str:
    """A row a split: ours, and the mean of means."""
    _, whole = gradients("float32")
    rows = [
        [
            str(n),
            f"{difference(gradients('float32', n)[1], whole):.1e}",
            f"{difference(mean_of_means(n), whole):.1e}",
        ]
        for n in (2, 3, 5, 8)
    ]
    return markdown(["micro-batches of 8", "weighed by tokens", "mean of means"], rows)


def added(dtype: torch.dtype, exponent: int, times: int = 256) -> float:
    """What 1 becomes when 2^exponent is added to it so many times in a dtype.

    Example:
      >>> added(torch.float32, -8), added(torch.bfloat16, -8)
      (2.0, 1.0)
    """
    weight, update = torch.ones((), dtype=dtype), torch.tensor(2.0**exponent, dtype=dtype)
    for _ in range(times):
        weight = weight + update
    return float(weight)


def precision() -> str:
    """Weights that are updated 256 times; then the errors of loss and gradients in half precision.

    Rows of updates: float32, bfloat16. Rows of errors: relative to float32.
    """
    updates = [
        [f"1 + 256 · 2^{exponent}", *(f"{added(dtype, exponent):.4f}"
                                      for dtype in (torch.float32, torch.bfloat16))]
        for exponent in (-6, -7, -8, -9)
    ]  # fmt: skip
    loss, grads = gradients("float32")
    half_loss, half_grads = gradients("bfloat16")
    errors = [
        ["loss, relative error", "0", f"{abs(half_loss / loss - 1):.1e}"],
        ["gradients, relative error", "0", f"{difference(half_grads, grads):.1e}"],
    ]
    return markdown(["", "float32", "bfloat16"], [*updates, *errors])


def _batch() -> tuple[Tensor, Tensor]:
    """Eight sequences of random ids."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(MODEL.vocab_size, (8, MODEL.context_length + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


def _gradients(batch: tuple[Tensor, Tensor], precision: Precision, n: int) -> tuple[float, Params]:
    """Loss and gradients of an untrained model."""
    loss, grads = loss_and_gradients(
        init_params(MODEL, 0),
        batch,
        model=MODEL,
        precision=precision,
        loss_scale=torch.tensor(1.0),
        n_micro_batches=n,
    )
    return float(loss), grads
