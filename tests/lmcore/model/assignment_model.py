"""The assignment's model, built the usual way: modules, a state dict, complex rotations.

It shares no code with the project but the configuration, so it is an oracle for all of it.
"""

import torch
from torch import nn

from lmcore.model.config import ModelConfig


class Linear(nn.Module):
    """A matrix without a bias."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))

    def forward(self, x):
        return torch.einsum("...i,oi->...o", x, self.weight)


def norm(config: ModelConfig) -> nn.Module:
    """PyTorch's own layer for each choice."""
    return {
        "rms_norm": lambda: nn.RMSNorm(config.d_model, eps=1e-5),
        "layer_norm": lambda: nn.LayerNorm(config.d_model, eps=1e-5),
        "none": nn.Identity,
    }[config.norm]()


def rotate(x: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Each pair as a complex number, times e^(i·angle); ``x`` is [B, H, S, K]."""
    *_, length, k = x.shape
    frequencies = config.rope_theta ** (-torch.arange(0, k, 2, dtype=torch.float64) / k)
    angles = torch.arange(length)[:, None] * frequencies
    # The project's tables are float32: the same rounding here allows a float64 comparison.
    turns = torch.complex(angles.cos().float().to(x.dtype), angles.sin().float().to(x.dtype))
    if config.rope_layout == "half_split":
        pairs = torch.complex(x[..., : k // 2], x[..., k // 2 :]) * turns
        return torch.cat((pairs.real, pairs.imag), -1)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turns
    return torch.view_as_real(pairs).flatten(-2)


class Attention(nn.Module):
    """Causal self-attention with a mask of minus infinity."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        d = config.d_model
        self.q_proj, self.k_proj, self.v_proj = Linear(d, d), Linear(d, d), Linear(d, d)
        self.output_proj = Linear(d, d)
        if config.qk_norm:
            self.q_norm, self.k_norm = (nn.RMSNorm(d // config.n_heads, 1e-5) for _ in range(2))

    def forward(self, x):
        b, s, _ = x.shape
        q, k, v = (
            p(x).view(b, s, self.config.n_heads, -1).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.config.positions == "rope":
            q, k = rotate(q, self.config), rotate(k, self.config)
        future = torch.full((s, s), float("-inf"), dtype=x.dtype).triu(1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + future, -1)
        return self.output_proj((weights @ v).transpose(1, 2).reshape(b, s, -1))


class FeedForward(nn.Module):
    """w2(act(w1 x)), or w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.kind = config.feed_forward
        self.w1 = Linear(config.d_model, config.ffn_width)
        self.w2 = Linear(config.ffn_width, config.d_model)
        if self.kind == "swiglu":
            self.w3 = Linear(config.d_model, config.ffn_width)

    def forward(self, x):
        inner = self.w1(x)
        if self.kind == "gelu":
            inner = nn.functional.gelu(inner)
        elif self.kind == "relu2":
            inner = inner * inner * (inner > 0)
        else:
            inner = inner * torch.sigmoid(inner)
        return self.w2(inner * self.w3(x) if self.kind == "swiglu" else inner)


class Block(nn.Module):
    """Pre- or post-norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.pre = config.norm_position == "pre"
        self.ln1, self.ln2 = norm(config), norm(config)
        self.attn, self.ffn = Attention(config), FeedForward(config)

    def forward(self, x):
        if self.pre:
            x = x + self.attn(self.ln1(x))
            return x + self.ffn(self.ln2(x))
        x = self.ln1(x + self.attn(x))
        return self.ln2(x + self.ffn(x))


class AssignmentModel(nn.Module):
    """The whole language model; its state dict has the assignment's names."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.token_embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = norm(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.d_model, config.vocab_size)

    def forward(self, token_ids):
        x = self.token_embeddings(token_ids)
        for layer in self.layers:
            x = layer(x)
        x = self.ln_final(x)
        head = getattr(self, "lm_head", self.token_embeddings).weight
        return torch.einsum("...d,vd->...v", x, head)


def load(config: ModelConfig, params: dict[str, torch.Tensor]) -> AssignmentModel:
    """The model with these parameters; every name must be used and no other wanted."""
    model = AssignmentModel(config).to(next(iter(params.values())).dtype)
    model.load_state_dict(params, strict=True)
    return model
