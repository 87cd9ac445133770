"""A small-language-model pretraining pipeline made of pure functions.

Every public name is loaded on first use (PEP 562), so that the tokenizer never pays for
``import torch``.

Example:
  >>> from lmcore import decode, encode, train_bpe
  >>> vocab, merges = train_bpe(["low low low lower"], vocab_size=262)
  >>> decode(encode("lower", vocab, merges), vocab)
  'lower'
"""

from importlib import import_module

# Module to its public names; docs/reference.md and the tests hold the same table.
_NAMES = {
    "lmcore.errors": ("InputError",),
    "lmcore.tokenizer.fast_training": ("train_bpe",),
    "lmcore.tokenizer.tokenizer": ("Tokenizer", "encode"),
    "lmcore.tokenizer.bpe": ("decode", "decode_bytes"),
    "lmcore.model.config": ("ModelConfig",),
    "lmcore.model.layers": (
        "linear",
        "embedding",
        "rms_norm",
        "silu",
        "gelu",
        "swiglu",
        "feed_forward",
        "softmax",
    ),
    "lmcore.model.positions": ("rotary_tables", "apply_rotary_emb"),
    "lmcore.model.attention": ("scaled_dot_product_attention", "multi_head_attention"),
    "lmcore.model.flash_attention": ("flash_attention",),
    "lmcore.model.transformer": ("transformer_block", "forward"),
    "lmcore.model.init": ("init_params",),
    "lmcore.optimizer.adamw": ("adamw_init", "adamw_step"),
    "lmcore.optimizer.schedule": ("cosine_schedule",),
    "lmcore.optimizer.clip": ("clip_by_global_norm",),
    "lmcore.training.config": ("TrainingConfig",),
    "lmcore.training.loss": ("cross_entropy",),
    "lmcore.training.step": ("TrainState", "init_state", "train_step"),
    "lmcore.evaluation.tally": ("perplexity", "bits_per_byte"),
    "lmcore.generation.generate": ("generate",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'lmcore' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
