"""What the size of a vocabulary does: to the text, to the tables, to the arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.vocabulary.texts import Texts
from benchmarks.vocabulary.trained import bytes_per_token, ids_of
from flows.presets import PRESETS
from lmcore import Tokenizer
from lmcore.model.counts import count_params, forward_flops, training_flops

RARE = 100  # occurrences
MODELS = ("tinystories", "tinystories-small", "cs336", "tinystories-base")


@dataclass(frozen=True)
class Compression:
    """What a vocabulary makes of text.

    novels, stories: bytes per token on unseen novels and on TinyStories.
    trained: bytes per token on what it was learned from.
    rare: tokens that occur less than `RARE` times in that: embeddings that are hardly trained.
    """

    vocab_size: int
    novels: float
    stories: float
    trained: float
    rare: int


def compression(tokenizer: Tokenizer, texts: Texts) -> Compression:
    """Encode the three English texts."""
    times = np.bincount(ids_of(tokenizer, texts.novels), minlength=tokenizer.vocab_size)
    ordinary = np.delete(times, list(tokenizer.special_ids.values()))
    return Compression(
        tokenizer.vocab_size,
        bytes_per_token(tokenizer, texts.unseen_novels),
        bytes_per_token(tokenizer, texts.stories),
        float(times @ tokenizer.token_lengths / times.sum()),
        int((ordinary < RARE).sum()),
    )


@dataclass(frozen=True)
class Cost:
    """What a vocabulary costs a model.

    embedding: parameters of the two tables, or of the one where they are tied.
    share, tied_share: theirs in the model, with two tables and with one.
    flops_per_byte: of training, a byte of the text that ``bytes_per_token`` is of.
    logits: the output matrix's share in the forward pass.
    """

    model: str
    vocab_size: int
    embedding: int
    tied_embedding: int
    share: float
    tied_share: float
    flops_per_byte: float
    logits: float


def cost(name: str, vocab_size: int, text_bytes_per_token: float) -> Cost:
    """From the model's configuration alone, and one figure of the text.

    Example:
      >>> cost("tinystories", 32_000, 4.0).embedding
      8192000
    """
    model = replace(PRESETS[name].model, vocab_size=vocab_size)
    two, one = (count_params(replace(model, tie_embeddings=tied)) for tied in (False, True))
    forward = forward_flops(model, 1, model.context_length)
    return Cost(
        name,
        vocab_size,
        two.embedding,
        one.embedding,
        two.embedding / two.total,
        one.embedding / one.total,
        training_flops(model, 1) / text_bytes_per_token,
        forward.lm_head / forward.total,
    )


def costs(found: Mapping[int, Compression]) -> list[Cost]:
    """Every model at every size, on unseen novels."""
    return [cost(model, size, one.novels) for model in MODELS for size, one in found.items()]
