"""The assignment's model tests by name: each layer, then the whole, with PyTorch as the oracle."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmcore.model.attention import multi_head_attention, scaled_dot_product_attention
from lmcore.model.config import ModelConfig
from lmcore.model.layers import embedding, linear, rms_norm, silu, softmax, swiglu
from lmcore.model.positions import apply_rotary_emb, rotary_tables
from lmcore.model.transformer import block_params, forward, transformer_block
from tests.lmcore.model.assignment_model import Attention, Block, load
from tests.lmcore.model.choices import tensor, tokens, wide_params

# The sizes of the assignment's fixtures, its SwiGLU and its interleaved rotation.
CONFIG = ModelConfig(
    vocab_size=10_000, context_length=16, d_model=64, n_layers=3, n_heads=4, d_ff=128,
    feed_forward="swiglu", rope_layout="interleaved",
)  # fmt: skip
B, S, D, F_, V = 4, 12, 64, 128, 10_000

# float64 sums of at most 10,000 terms.
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal but for the order of float64 sums."""
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.fixture(scope="module")
def params() -> dict[str, torch.Tensor]:
    """Parameters of the whole model, float64."""
    return wide_params(CONFIG)


def test_linear():
    """A linear layer is nn.Linear without a bias."""
    layer = nn.Linear(D, F_, bias=False).double()
    x = tensor(B, S, D)
    same(linear(x, layer.weight), layer(x))


def test_embedding():
    """An embedding is nn.Embedding."""
    layer = nn.Embedding(V, D).double()
    ids = tokens(CONFIG, B, S)
    assert torch.equal(embedding(ids, layer.weight), layer(ids))


def test_swiglu():
    """SwiGLU is PyTorch's silu of one product, times another, times a matrix."""
    x, w1, w2, w3 = tensor(B, S, D), tensor(F_, D, seed=1), tensor(D, F_, seed=2), tensor(F_, D)
    same(swiglu(x, w1, w2, w3), F.linear(F.silu(F.linear(x, w1)) * F.linear(x, w3), w2))


def test_scaled_dot_product_attention():
    """Attention with a mask is PyTorch's, on [B, S, K]."""
    q, k, v = tensor(B, S, D), tensor(B, 16, D, seed=1), tensor(B, 16, D, seed=2)
    mask = tensor(B, S, 16, seed=3) > 0
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    same(scaled_dot_product_attention(q, k, v, mask), theirs)


def test_4d_scaled_dot_product_attention():
    """Attention with a mask is PyTorch's, on [B, H, S, K]."""
    q, k, v = (tensor(2, 2, n, D, seed=n) for n in (S, 16, 16))
    mask = tensor(2, 2, S, 16, seed=3) > 0
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    same(scaled_dot_product_attention(q, k, v, mask=mask), theirs)


@pytest.mark.parametrize("positions", ["none", "rope"])
def test_multihead_self_attention(positions, params):
    """Causal self-attention, without and with RoPE, is that of a module built the usual way."""
    config = replace(CONFIG, positions=positions)
    weights = {
        n.removeprefix("attn."): w
        for n, w in block_params(params, 0).items()
        if n.startswith("attn.")
    }
    module = Attention(config).double()
    module.load_state_dict(weights)
    x = tensor(B, S, D)
    ours = multi_head_attention(
        x,
        weights["q_proj.weight"],
        weights["k_proj.weight"],
        weights["v_proj.weight"],
        weights["output_proj.weight"],
        n_heads=config.n_heads,
        rotary=rotary_tables(16, S) if positions == "rope" else None,
        layout=config.rope_layout,
    )
    same(ours, module(x))


def test_multihead_self_attention_with_rope(params):
    """Handing the positions in, as the assignment does, equals counting them."""
    names = ("q_proj", "k_proj", "v_proj", "output_proj")
    q, k, v, o = (params[f"layers.0.attn.{n}.weight"] for n in names)
    x, rotary, positions = tensor(B, S, D), rotary_tables(16, 16), torch.arange(S)[None]
    given = multi_head_attention(x, q, k, v, o, 4, rotary=rotary, positions=positions)
    same(given, multi_head_attention(x, q, k, v, o, 4, rotary=rotary))
    assert not torch.allclose(given, multi_head_attention(x, q, k, v, o, 4))


def test_rope():
    """Interleaved rotation is multiplication by exp(i·m·theta^(-2i/K))."""
    x = tensor(B, S, 1, D)
    angles = torch.arange(S)[:, None] * 10_000 ** (-torch.arange(0, D, 2).double() / D)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    ours = apply_rotary_emb(x, *rotary_tables(D, S), layout="interleaved")
    # The tables are float32.
    torch.testing.assert_close(ours, torch.view_as_real(turned).flatten(-2), rtol=0, atol=5e-7)


def test_rmsnorm():
    """RMSNorm is nn.RMSNorm."""
    layer = nn.RMSNorm(D, eps=1e-5).double()
    weight, x = tensor(D, seed=1), tensor(B, S, D)
    layer.load_state_dict({"weight": weight})
    same(rms_norm(x, weight), layer(x))


def test_silu_matches_pytorch():
    """SiLU is x / (1 + e^-x), as PyTorch's is."""
    x = tensor(B, S)
    same(silu(x), x / (1 + torch.exp(-x)))
    same(silu(x), F.silu(x))


def test_softmax_matches_pytorch():
    """Softmax is PyTorch's, and stays finite for scores a hundred greater."""
    x = tensor(3, 5)
    same(softmax(x, dim=-1), F.softmax(x, dim=-1))
    same(softmax(x + 100, dim=-1), F.softmax(x, dim=-1))
    same(softmax(x, dim=0), F.softmax(x, dim=0))


def test_transformer_block(params):
    """A block is that of a module with the same state dict."""
    module = Block(CONFIG).double()
    module.load_state_dict(block_params(params, 0))
    x = tensor(B, S, D)
    same(
        transformer_block(block_params(params, 0), CONFIG, x, rotary=rotary_tables(16, S)),
        module(x),
    )


def test_transformer_lm(params):
    """The whole model gives the logits of a module with the same state dict."""
    ids = tokens(CONFIG, B, S)
    same(forward(params, CONFIG, ids), load(CONFIG, params)(ids).detach())


def test_transformer_lm_truncated_input(params):
    """Half the input gives the logits of a module for half the input, and those of the whole."""
    ids = tokens(CONFIG, B, S)
    half = forward(params, CONFIG, ids[:, : S // 2])
    same(half, load(CONFIG, params)(ids[:, : S // 2]).detach())
    same(half, forward(params, CONFIG, ids)[:, : S // 2])
