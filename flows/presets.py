"""The runs that have a name. A preset derives from another with `replace`; nothing mutates one.

Sizes count parameters outside the embeddings.
"""

from dataclasses import replace
from difflib import get_close_matches

from flows.config import RunConfig
from flows.corpora.config import ReadingConfig, SourceConfig
from flows.corpora.published import published
from flows.stages.evaluate import EvaluationConfig
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.tokenizer.config import TokenizerConfig
from lmcore.training.config import TrainingConfig

quickstart = RunConfig(
    source=SourceConfig(kind="stories", n_train_stories=20_000, n_valid_stories=1_000),
    tokenizer=TokenizerConfig(vocab_size=1_024),
    model=ModelConfig(
        context_length=256,
        d_model=128,
        n_layers=3,
        n_heads=4,
        qk_norm=True,
        zero_init_outputs=True,
    ),
    training=TrainingConfig(
        tokens=2_250_000,
        batch_size=8,
        layout="document",
        optimizer="muon",
        muon_max_lr=0.01,
        max_lr=9e-3,
        embedding_lr_ratio=5.0,
        min_lr_ratio=0.0,
        warmup_steps=50,
        validate_every=200,
    ),
    evaluation=EvaluationConfig(),
)

tinystories = RunConfig(
    source=published("tinystories"),
    reading=ReadingConfig(),
    tokenizer=TokenizerConfig(vocab_size=10_000),
    model=ModelConfig(context_length=256, d_model=128, n_layers=5, n_heads=4),
    training=TrainingConfig(
        tokens=100_000_000,
        batch_size=64,
        max_lr=2e-3,
        warmup_steps=200,
        validate_every=500,
    ),
    evaluation=EvaluationConfig(),
)

tinystories_small = replace(
    tinystories,
    model=replace(tinystories.model, d_model=384, n_layers=6, n_heads=6),
    training=replace(tinystories.training, tokens=300_000_000, max_lr=1e-3),
)

tinystories_base = replace(
    tinystories,
    model=replace(tinystories.model, context_length=512, d_model=640, n_layers=10, n_heads=10),
    training=replace(tinystories.training, tokens=1_000_000_000, max_lr=6e-4, warmup_steps=500),
)

owt_tiny = replace(
    tinystories,
    source=published("openwebtext"),
    tokenizer=TokenizerConfig(vocab_size=32_000),
)

owt_small = replace(owt_tiny, model=tinystories_small.model, training=tinystories_small.training)

# The assignment's own setting: 12.5M parameters outside the embeddings, of
# which its handout trains on 327,680,000 tokens on a GPU, and on 40,960,000 on a laptop's CPU.
cs336 = replace(
    tinystories,
    model=ModelConfig(
        context_length=256,
        d_model=512,
        d_ff=1_344,
        n_layers=4,
        n_heads=16,
        feed_forward="swiglu",
    ),
    training=replace(
        tinystories.training, tokens=327_680_000, batch_size=128, max_lr=1e-3, warmup_steps=500
    ),
)

cs336_cpu = replace(
    cs336, training=replace(cs336.training, tokens=40_960_000, batch_size=32, warmup_steps=200)
)

PRESETS: dict[str, RunConfig] = {
    "quickstart": quickstart,
    "tinystories": tinystories,
    "tinystories-small": tinystories_small,
    "tinystories-base": tinystories_base,
    "owt-tiny": owt_tiny,
    "owt-small": owt_small,
    "cs336": cs336,
    "cs336-cpu": cs336_cpu,
}


def preset(name: str) -> RunConfig:
    """The preset of that name.

    Raises:
      InputError: there is none; the message lists those there are.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"there is no preset {name!r}: {hint}take one of {', '.join(PRESETS)}")
