"""Our settings on each corpus, and what was tried beside them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks.time_to_quality.sides import Side
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

_STORIES = Side(
    "lmcore",
    "lmcore",
    model=ModelConfig(
        vocab_size=4_096,
        context_length=128,
        d_model=192,
        n_layers=2,
        n_heads=6,
        feed_forward="swiglu",
        qk_norm=True,
        zero_init_outputs=True,
    ),
    training=TrainingConfig(
        batch_size=12,
        optimizer="muon",
        max_lr=9e-3,
        embedding_lr_ratio=5.0,
        muon_max_lr=0.01,
        min_lr_ratio=0.0,
        warmup_steps=50,
        weight_decay=0.5,
        precision="bfloat16",
    ),
)
_NOVELS = replace(
    _STORIES,
    model=replace(_STORIES.model, vocab_size=8_192),
    training=replace(_STORIES.training, weight_decay=0.1),  # no token is seen twice
)

# In 300 s 2 MB are seen fourteen times over, in 100 s not five times.
_STORIES_AGAIN = Side(
    "lmcore against overfitting",
    "lmcore",
    model=replace(_STORIES.model, vocab_size=2_048),
    training=replace(_STORIES.training, dropout=0.1),
)


class Settings(NamedTuple):
    """Ours on a corpus."""

    third: Side
    """For a third of the time."""
    whole: Side
    """For the whole of it."""


# Chosen on one half of the validation text, by runs of 60, 100 and 300 s on two cores that multiply
# bfloat16, after runs of 160 and 480 s of float32 on one (docs/lab-notes.md).
OURS: dict[str, Settings] = {
    "tinystories": Settings(_STORIES, _STORIES_AGAIN),
    "novels": Settings(_NOVELS, _NOVELS),
}


def changed(**fields: Any) -> Callable[[Side], Side]:
    """A change of the fields that bear these names, of the model or of the training.

    Example:
      >>> changed(n_layers=2, batch_size=4)(OURS["tinystories"].third).training.batch_size
      4
    """

    def change(side: Side) -> Side:
        in_model = {name: v for name, v in fields.items() if hasattr(side.model, name)}
        rest = {name: value for name, value in fields.items() if name not in in_model}
        return replace(
            side,
            model=replace(side.model, **in_model),
            training=replace(side.training, **rest),
        )

    return change


def variants(side: Side) -> dict[str, Side]:
    """The side, and then each of `TRIED` that changes it.

    Example:
      >>> "vocabulary 8,192" in variants(OURS["novels"].third)  # those are ours there
      False
    """
    return {
        name: change(side)
        for name, change in TRIED.items()
        if name == "as chosen" or change(side) != side
    }


TRIED: dict[str, Callable[[Side], Side]] = {
    "as chosen": changed(),
    "AdamW for the matrices too": changed(optimizer="adamw"),
    "embeddings at the rate of the rest": changed(embedding_lr_ratio=1.0),
    "AdamW at a third of the rate": changed(max_lr=3e-3),
    "no norm of queries and keys": changed(qk_norm=False),
    "float32": changed(precision="float32"),
    "ReLU²": changed(feed_forward="relu2"),
    "outputs start at random": changed(zero_init_outputs=False),
    "vocabulary 2,048": changed(vocab_size=2_048),
    "vocabulary 4,096": changed(vocab_size=4_096),
    "vocabulary 8,192": changed(vocab_size=8_192),
    "width 128, 3 layers": changed(d_model=128, n_heads=4, n_layers=3),
    "3 layers": changed(n_layers=3),
    "width 256": changed(d_model=256, n_heads=8),
    "context 256, batch 6": changed(context_length=256, batch_size=6),
    "batch 8": changed(batch_size=8),
    "batch 16": changed(batch_size=16),
    "Muon at half the rate": changed(muon_max_lr=0.005),
    "Muon at twice the rate": changed(muon_max_lr=0.02),
    "weight decay 0.1": changed(weight_decay=0.1),
    "weight decay 1.5": changed(weight_decay=1.5),
    "no dropout": changed(dropout=0.0),
    "dropout 0.05": changed(dropout=0.05),
    "dropout 0.1": changed(dropout=0.1),
    "dropout 0.2": changed(dropout=0.2),
    "beta2 0.99": changed(beta2=0.99),
}
