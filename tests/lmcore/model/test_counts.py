"""Counts from the configuration against what PyTorch counts on the real thing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lmcore.model.attention import scaled_dot_product_attention
from lmcore.model.config import ModelConfig
from lmcore.model.counts import (
    activation_bytes,
    count_params,
    forward_flops,
    kv_cache_bytes,
    training_flops,
)
from lmcore.model.init import init_params
from lmcore.model.kv_cache import empty_cache
from lmcore.model.transformer import forward
from lmcore.params import count
from tests.lmcore.model.choices import EVERY_CHOICE, SMALL, name, tokens

every_choice = pytest.mark.parametrize("config", EVERY_CHOICE, ids=name)

# The assignment's GPT-2 sizes, with its SwiGLU of d_ff = 4 d_model and an untied head.
GPT2_XL = ModelConfig(
    vocab_size=50_257, context_length=1_024, d_model=1_600, n_layers=48, n_heads=25, d_ff=6_400,
    feed_forward="swiglu",
)  # fmt: skip


def naive(q, k, v, *, is_causal):
    """Attention whose two products PyTorch's counter sees."""
    return scaled_dot_product_attention(q, k, v, is_causal=is_causal)


@every_choice
def test_parameters_are_those_that_exist(config):
    """Total and every part equal the sizes of real parameters."""
    params, counts = init_params(config, 0), count_params(config)
    assert counts.total == count(params) == sum(counts.by_part().values())
    embedding = {
        n: p for n, p in params.items() if n.split(".")[0] in ("token_embeddings", "lm_head")
    }
    assert counts.embedding == count(embedding)
    assert counts.non_embedding == counts.total - counts.embedding
    assert counts.norms == count({n: p for n, p in params.items() if p.ndim == 1})
    assert counts.attention == 2 * 4 * 8 * 8
    assert counts.feed_forward == 2 * 8 * 12 * (3 if config.feed_forward == "swiglu" else 2)


@every_choice
def test_flops_are_those_that_pytorch_counts(config):
    """Products with weights and products of attention, counted as the model runs."""
    params, ids = init_params(config, 0), tokens(config, 3, 8)
    with FlopCounterMode(display=False) as counter:
        forward(params, config, ids, attention=naive)
    counted = counter.get_flop_counts()["Global"]
    flops = forward_flops(config, 3, 8)
    attention = flops.attention_scores + flops.attention_values
    assert counted.pop(torch.ops.aten.bmm) == attention
    assert sum(counted.values()) == flops.total - attention


def test_training_is_three_forward_passes():
    """Forward and backward of whole sequences, as PyTorch counts them."""
    params = {n: p.requires_grad_() for n, p in init_params(SMALL, 0).items()}
    with FlopCounterMode(display=False) as counter:
        forward(params, SMALL, tokens(SMALL, 3, 8), attention=naive).sum().backward()
    assert counter.get_total_flops() == training_flops(SMALL, 3 * 8)


def test_gpt2_xl_as_the_assignment_asks():
    """The closed forms by hand: parameters, and FLOPs by part, of GPT-2 XL."""
    d, f, v, s, layers = 1_600, 6_400, 50_257, 1_024, 48
    counts = count_params(GPT2_XL)
    assert counts.total == 2 * v * d + layers * (4 * d * d + 3 * d * f + 2 * d) + d == 2_127_057_600
    assert counts.embedding == 2 * v * d
    assert forward_flops(GPT2_XL, 1, s).by_part() == {
        "qkv_projections": layers * 6 * s * d * d,
        "attention_scores": layers * 2 * s * s * d,
        "attention_values": layers * 2 * s * s * d,
        "output_projection": layers * 2 * s * d * d,
        "feed_forward": layers * 6 * s * d * f,
        "lm_head": 2 * s * d * v,
    }
    assert forward_flops(GPT2_XL, 1, s).total == 4_513_336_524_800


@pytest.mark.parametrize("compute_dtype", [None, torch.bfloat16])
@every_choice
def test_activation_bytes_are_about_what_autograd_keeps(config, compute_dtype):
    """Within 10% of the bytes that autograd saves, weights and tables left out."""
    config = replace(config, d_model=32, d_ff=96, vocab_size=64, context_length=32)
    params = {n: p.requires_grad_() for n, p in init_params(config, 0).items()}
    saved: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    # Tensors stay alive until the end, so that no two share an address.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        logits = forward(params, config, tokens(config, 16, 32), compute_dtype=compute_dtype)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens(config, 16, 32, seed=1).flatten())
    # The logits themselves are held by their owner, not by the graph.
    measured = sum(saved.values()) + logits.nbytes
    weights = sum(p.nbytes for p in params.values())
    if compute_dtype is not None:
        weights += sum(p.nbytes // 2 for p in params.values() if p.ndim == 2)
    low = 4 if compute_dtype is None else 2
    estimate = activation_bytes(config, 16, 32, bytes_per_value=low, attention_bytes_per_value=4)
    assert loss.requires_grad
    assert estimate.total == pytest.approx(measured - weights, rel=0.1)


def test_the_cache_is_as_large_as_counted():
    """The tensors of an empty cache have the bytes that the count says."""
    cache = empty_cache(SMALL, 3, dtype=torch.bfloat16)
    nbytes = cache.keys.nbytes + cache.values.nbytes
    assert nbytes == kv_cache_bytes(SMALL, 3, bytes_per_value=2)
    assert kv_cache_bytes(SMALL, 3, 1) * 8 == 2 * nbytes
