"""A small call of every public function, and of every module below them: what purity is tried on.

Each call makes its own arguments, so that it can be made again and again.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from lmcore.data.batch import batch_at, rows_at
from lmcore.data.permutation import permute
from lmcore.data.windows import window_starts
from lmcore.evaluation.reference import bigram_loss
from lmcore.evaluation.scoring import score_documents
from lmcore.evaluation.tally import combine, measurements
from lmcore.model.counts import count_params
from lmcore.params import count, flatten, global_norm, map_params
from lmcore.planning.budget import plan
from lmcore.synthetic.stories import entropy_bits_per_byte, story, story_log2_probability

library: Any = import_module("lmcore")  # loads its names on first use, unseen by checkers

MODEL = library.ModelConfig(vocab_size=16, context_length=8, d_model=8, n_layers=1, n_heads=2)
TRAINING = library.TrainingConfig(tokens=64, batch_size=2, warmup_steps=1, precision="float32")
WORDS = ("low low low lower", "slow")


def tensor(*shape: int) -> torch.Tensor:
    """Values that do not repeat, without a generator."""
    n = int(np.prod(shape))
    return torch.linspace(-1.0, 1.0, n).sin().view(shape)


def tokenizer() -> Any:
    vocab, merges = library.train_bpe(WORDS, vocab_size=262)
    return library.Tokenizer(vocab, merges, ("<pad>", "<eos>", "<bos>"))


def params() -> dict[str, torch.Tensor]:
    return library.init_params(MODEL, 0)


def token_ids(n_rows: int = 2) -> torch.Tensor:
    return (torch.arange(n_rows * 8) * 7 % 16).view(n_rows, 8)


def trained(state: Any) -> object:
    return library.train_step(
        state, (token_ids(), token_ids().roll(-1)), model=MODEL, training=TRAINING
    )


def stepped() -> object:
    weights = params()
    return library.adamw_step(weights, params(), library.adamw_init(weights))


def moved_by_muon() -> object:
    matrices = {"w": tensor(4, 3)}
    return library.muon_step(matrices, {"w": tensor(4, 3)}, library.muon_init(matrices))


def scored() -> object:
    offsets = np.array([0, 5, 12])
    tokens = np.arange(20, dtype=np.uint16) % 16
    tallies = score_documents(params(), MODEL, tokens, offsets, np.array([10, 20]))
    return measurements(combine(tallies), bigram_loss=bigram_loss(tokens, tokens, 16))


def batches() -> object:
    starts = window_starts(np.array([0, 5, 12, 40]), 8, "document")
    tokens = np.arange(60, dtype=np.uint16)
    return batch_at(tokens, starts, 8, 2, 0, 3), rows_at(3, 2, len(starts), 0)


PUBLIC: dict[str, Callable[[], object]] = {
    "InputError": lambda: str(library.InputError("x is 1: it must be 2")),
    "train_bpe": lambda: library.train_bpe(WORDS, vocab_size=262),
    "Tokenizer": lambda: tokenizer().encode_batch(["lower", "<eos>"]),
    "encode": lambda: library.encode("lower", tokenizer().vocab, tokenizer().merges),
    "decode": lambda: library.decode([70, 71], tokenizer().vocab),
    "decode_bytes": lambda: library.decode_bytes([70, 71], tokenizer().vocab),
    "ModelConfig": lambda: MODEL.ffn_width,
    "linear": lambda: library.linear(tensor(2, 3), tensor(4, 3)),
    "embedding": lambda: library.embedding(token_ids(), tensor(16, 4)),
    "rms_norm": lambda: library.rms_norm(tensor(2, 4), torch.ones(4)),
    "silu": lambda: library.silu(tensor(5)),
    "gelu": lambda: library.gelu(tensor(5)),
    "swiglu": lambda: library.swiglu(tensor(2, 3), tensor(4, 3), tensor(3, 4), tensor(4, 3)),
    "feed_forward": lambda: library.feed_forward(tensor(2, 3), tensor(4, 3), tensor(3, 4)),
    "softmax": lambda: library.softmax(tensor(2, 5)),
    "rotary_tables": lambda: library.rotary_tables(4, 8),
    "apply_rotary_emb": lambda: library.apply_rotary_emb(
        tensor(1, 8, 2, 4), *library.rotary_tables(4, 8)
    ),
    "scaled_dot_product_attention": lambda: library.scaled_dot_product_attention(
        tensor(1, 2, 8, 4), tensor(1, 2, 8, 4), tensor(1, 2, 8, 4), is_causal=True
    ),
    "multi_head_attention": lambda: library.multi_head_attention(
        tensor(1, 8, 8), *(tensor(8, 8) for _ in range(4)), n_heads=2
    ),
    "flash_attention": lambda: library.flash_attention(
        tensor(1, 2, 8, 4), tensor(1, 2, 8, 4), tensor(1, 2, 8, 4), is_causal=True
    ),
    "transformer_block": lambda: library.forward(params(), MODEL, token_ids()),
    "forward": lambda: library.forward(params(), MODEL, token_ids(), compute_dtype=torch.bfloat16),
    "init_params": params,
    "adamw_init": lambda: library.adamw_init(params()),
    "adamw_step": stepped,
    "muon_init": lambda: library.muon_init({"w": tensor(4, 3)}),
    "muon_step": moved_by_muon,
    "cosine_schedule": lambda: library.cosine_schedule(5, 1e-3, 1e-4, 2, 10),
    "clip_by_global_norm": lambda: library.clip_by_global_norm(params(), 1.0),
    "TrainingConfig": lambda: library.TrainingConfig(),
    "cross_entropy": lambda: library.cross_entropy(tensor(2, 8, 16), token_ids()),
    "TrainState": lambda: flatten(library.init_state(MODEL, TRAINING)),
    "init_state": lambda: library.init_state(MODEL, TRAINING),
    "train_step": lambda: trained(library.init_state(MODEL, TRAINING)),
    "perplexity": lambda: library.perplexity(1.5),
    "bits_per_byte": lambda: library.bits_per_byte(100.0, 50),
    "generate": lambda: library.generate(params(), MODEL, [1, 2], 12, 0.8, 5, 0.9, seed=3),
}

BELOW: dict[str, Callable[[], object]] = {
    "batches": batches,
    "permutation": lambda: permute(np.arange(10), 10, 0, 0),
    "scoring": scored,
    "story": lambda: story_log2_probability(story(0, 1)),
    "entropy": entropy_bits_per_byte,
    "counts": lambda: count_params(MODEL),
    "params": lambda: (count(params()), global_norm(map_params(torch.neg, params()))),
    "planning": lambda: plan(MODEL, TRAINING, micro_batch=1),
}

CALLS = PUBLIC | BELOW
