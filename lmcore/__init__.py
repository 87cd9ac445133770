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
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` finds, spelt out for type checkers and editors
    from lmcore.errors import InputError as InputError
    from lmcore.evaluation.tally import bits_per_byte as bits_per_byte, perplexity as perplexity
    from lmcore.generation.generate import generate as generate
    from lmcore.model.attention import (
        multi_head_attention as multi_head_attention,
        scaled_dot_product_attention as scaled_dot_product_attention,
    )
    from lmcore.model.block import transformer_block as transformer_block
    from lmcore.model.config import ModelConfig as ModelConfig
    from lmcore.model.flash_attention import flash_attention as flash_attention
    from lmcore.model.init import init_params as init_params
    from lmcore.model.layers import (
        embedding as embedding,
        feed_forward as feed_forward,
        gelu as gelu,
        linear as linear,
        rms_norm as rms_norm,
        silu as silu,
        softmax as softmax,
        swiglu as swiglu,
    )
    from lmcore.model.positions import (
        apply_rotary_emb as apply_rotary_emb,
        rotary_tables as rotary_tables,
    )
    from lmcore.model.transformer import forward as forward
    from lmcore.optimizer.adamw import adamw_init as adamw_init, adamw_step as adamw_step
    from lmcore.optimizer.clip import clip_by_global_norm as clip_by_global_norm
    from lmcore.optimizer.muon import muon_init as muon_init, muon_step as muon_step
    from lmcore.optimizer.schedule import cosine_schedule as cosine_schedule
    from lmcore.tokenizer.bpe import decode as decode, decode_bytes as decode_bytes
    from lmcore.tokenizer.fast_training import train_bpe as train_bpe
    from lmcore.tokenizer.tokenizer import Tokenizer as Tokenizer, encode as encode
    from lmcore.training.config import TrainingConfig as TrainingConfig
    from lmcore.training.loss import cross_entropy as cross_entropy
    from lmcore.training.step import (
        TrainState as TrainState,
        init_state as init_state,
        train_step as train_step,
    )

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
    "lmcore.model.block": ("transformer_block",),
    "lmcore.model.transformer": ("forward",),
    "lmcore.model.init": ("init_params",),
    "lmcore.optimizer.adamw": ("adamw_init", "adamw_step"),
    "lmcore.optimizer.muon": ("muon_init", "muon_step"),
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
