"""Every member of the model's family, small, and random tensors for them."""

from dataclasses import fields, replace
from itertools import product
from typing import get_args, get_type_hints

import torch

from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params

SMALL = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_layers=2, n_heads=2, d_ff=12)


def _values(field: str) -> tuple:
    """The values of a choice: its Literal's, or both of a bool."""
    hint = get_type_hints(ModelConfig)[field]
    return (False, True) if hint is bool else get_args(hint)


# Where parameters start is no part of the function; test_init has it.
CHOICES = {
    f.name: _values(f.name)
    for f in fields(ModelConfig)
    if _values(f.name) and f.name != "zero_init_outputs"
}
EVERY_CHOICE = [
    replace(SMALL, **dict(zip(CHOICES, values, strict=True)))
    for values in product(*CHOICES.values())
    # Without a rotation its layout says nothing.
    if not {"none", "interleaved"} <= set(values[3:5])
]
ONE_CHANGE = [SMALL, *(replace(SMALL, **{f: v}) for f, vs in CHOICES.items() for v in vs[1:])]


def name(config: ModelConfig) -> str:
    """The choices that differ from the small default, for a test's name."""
    values = {f: getattr(config, f) for f in CHOICES}
    changed = {f: value for f, value in values.items() if value != getattr(SMALL, f)}
    return "-".join(f if value is True else value for f, value in changed.items()) or "default"


def tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal numbers that depend on the shape and the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def tokens(config: ModelConfig, *shape: int, seed: int = 0) -> torch.Tensor:
    """Token ids that the model knows."""
    return torch.randint(
        config.vocab_size, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int64
    )


def wide_params(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Parameters in float64, gains and biases away from their neutral values."""
    params = init_params(config, seed)
    return {
        name: value.double() + 0.1 * tensor(*value.shape, seed=i)
        for i, (name, value) in enumerate(params.items())
    }
