"""The other side: GPTs as `nn.Module`, with the training step that goes with them.

Two flavours. `FaithfulGPT` computes the function of `lmcore.model.transformer` from the same
parameters, written the way a PyTorch user would. `NanoGPT` is GPT-2 as nanoGPT describes it, with
the defaults of its training script: no biases, dropout 0.

Legend: B batch · S sequence · D d_model · H heads · K head_dim · F d_ff · V vocab_size.

References:
  Karpathy, 2022, nanoGPT; Radford et al., 2019, Language Models are Unsupervised Multitask
  Learners, section 2.3.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.positions import rotary_tables
from lmcore.optimizer.schedule import cosine_schedule
from lmcore.params import global_norm
from lmcore.training.config import TrainingConfig, n_steps


class SelfAttention(nn.Module):
    """Causal self-attention: one projection to queries, keys and values, PyTorch's kernel."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        b, s, d = x.shape
        q, k, v = (
            part.view(b, s, self.n_heads, d // self.n_heads).transpose(1, 2)  # [B, H, S, K]
            for part in self.qkv(x).split(d, dim=2)
        )
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(mixed.transpose(1, 2).contiguous().view(b, s, d))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE by halves: ``x cos + rotate_half(x) sin``; x is ``[B, H, S, K]``, tables ``[S, K]``."""
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).type_as(x)


class FeedForward(nn.Module):
    """Two matrices with GELU between them."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.fc = nn.Linear(d_model, d_ff, bias=False)
        self.proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.gelu(self.fc(x)))


class GatedFeedForward(nn.Module):
    """SwiGLU: the gate and the values by one product, as the queries, keys and values are."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.fc = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, values = self.fc(x).chunk(2, dim=-1)
        return self.proj(F.silu(gate) * values)


class Block(nn.Module):
    """Pre-norm: ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, config: ModelConfig, norm: Callable[[], nn.Module], ffn: nn.Module) -> None:
        super().__init__()
        self.ln1, self.attn = norm(), SelfAttention(config)
        self.ln2, self.ffn = norm(), ffn

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.attn(self.ln1(x), rotary)
        return x + self.ffn(self.ln2(x))


class FaithfulGPT(nn.Module):
    """The architecture of lmcore's model: RMSNorm, RoPE, no biases, a head of its own.

    Raises:
      InputError: the configuration asks for something else.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        refuse_other_architectures(config)
        d, gated = config.d_model, config.feed_forward == "swiglu"
        layer = GatedFeedForward if gated else FeedForward
        self.wte = nn.Embedding(config.vocab_size, d)
        self.blocks = nn.ModuleList(
            Block(config, lambda: nn.RMSNorm(d, eps=1e-5), layer(d, config.ffn_width))
            for _ in range(config.n_layers)
        )
        self.ln_f = nn.RMSNorm(d, eps=1e-5)
        self.head = nn.Linear(d, config.vocab_size, bias=False)
        cos, sin = rotary_tables(config.head_dim, config.context_length, config.rope_theta)
        self.register_buffer("cos", torch.cat((cos, cos), dim=-1), persistent=False)  # [S, K]
        self.register_buffer("sin", torch.cat((sin, sin), dim=-1), persistent=False)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss in nats a token; both arguments are ``[B, S]``."""
        rotary = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.wte(ids)
        for block in self.blocks:
            x = block(x, rotary)
        logits = self.head(self.ln_f(x))  # [B, S, V]
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def refuse_other_architectures(config: ModelConfig) -> None:
    """Raise unless `FaithfulGPT` computes what the configuration says."""
    expected = {
        "norm": "rms_norm",
        "norm_position": "pre",
        "positions": "rope",
        "rope_layout": "half_split",
        "tie_embeddings": False,
        "qk_norm": False,
    }
    asked = {name: getattr(config, name) for name in expected}
    found = [f"{name} is {asked[name]!r}" for name in expected if asked[name] != expected[name]]
    if config.feed_forward not in ("gelu", "swiglu"):
        found.append(f"feed_forward is {config.feed_forward!r}")
    if found:
        raise InputError(
            f"{', '.join(found)}: the module GPT has pre-norm rms_norm, rope in half_split, gelu "
            "or swiglu and a head of its own; compare one of those"
        )


def module_params(params: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """lmcore's parameters under the names and in the shapes of `FaithfulGPT`; gradients likewise.

    Args:
      params: by name, as in `parameter_shapes`.
      config: its number of layers and feed-forward layer are read.

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=8, d_model=8, n_layers=1, n_heads=2)
      >>> module_params(init_params(config, seed=0), config)["blocks.0.attn.qkv.weight"].shape
      torch.Size([24, 8])
    """
    named = {
        "wte.weight": params["token_embeddings.weight"],
        "ln_f.weight": params["ln_final.weight"],
        "head.weight": params["lm_head.weight"],
    }
    inner = ("w1", "w3") if config.feed_forward == "swiglu" else ("w1",)
    for layer in range(config.n_layers):
        ours, theirs = f"layers.{layer}", f"blocks.{layer}"
        qkv = [params[f"{ours}.attn.{name}_proj.weight"] for name in "qkv"]
        fc = [params[f"{ours}.ffn.{name}.weight"] for name in inner]
        named |= {
            f"{theirs}.ln1.weight": params[f"{ours}.ln1.weight"],
            f"{theirs}.attn.qkv.weight": torch.cat(qkv),
            f"{theirs}.attn.proj.weight": params[f"{ours}.attn.output_proj.weight"],
            f"{theirs}.ln2.weight": params[f"{ours}.ln2.weight"],
            f"{theirs}.ffn.fc.weight": torch.cat(fc),
            f"{theirs}.ffn.proj.weight": params[f"{ours}.ffn.w2.weight"],
        }
    return named


class NanoGPT(nn.Module):
    """GPT-2 as in nanoGPT: LayerNorm, learned positions, GELU of width 4 D, the head tied."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.wte = nn.Embedding(config.vocab_size, d)
        self.wpe = nn.Embedding(config.context_length, d)
        self.blocks = nn.ModuleList(
            Block(config, lambda: nn.LayerNorm(d, bias=False), FeedForward(d, 4 * d))
            for _ in range(config.n_layers)
        )
        self.ln_f = nn.LayerNorm(d, bias=False)
        self.head = nn.Linear(d, config.vocab_size, bias=False)
        self.head.weight = self.wte.weight
        for name, param in self.named_parameters():
            if param.ndim == 2:  # matrices that write into the residual stream start smaller
                layers = 2 * config.n_layers if name.endswith("proj.weight") else 1
                nn.init.normal_(param, std=0.02 / math.sqrt(max(layers, 1)))

    def logits(self, ids: Tensor) -> Tensor:
        """Of the next token at every place, ``[B, S, V]``."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x, None)
        return self.head(self.ln_f(x))

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss in nats a token; both arguments are ``[B, S]``."""
        logits = self.logits(ids)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def module_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """PyTorch's fused AdamW; matrices decay, gains do not."""
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (training.beta1, training.beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=training.eps, fused=True)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """What is there of them, by the parameters' names."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def module_stepper(
    model: nn.Module,
    training: TrainingConfig,
    context_length: int,
    *,
    compile_model: bool = False,
    exact_steps: int = 0,
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A function that makes the next training step: its loss and gradient norm, not waited for.

    As in nanoGPT's loop: the model is compiled, autocast covers the forward pass, gradients are
    clipped by their joint norm, the schedule sets the learning rate of every step.

    Args:
      model: it is trained where it is; parameters float32, on the device.
      training: learning rates, decay, clipping; with bfloat16 the forward pass is autocast.
      context_length: tokens of a sequence, which with the batch make the schedule's length.
      compile_model: by torch.compile.
      exact_steps: so many first steps tell the gradient norm as `lmcore.params.global_norm` has it;
        PyTorch's, by which all steps clip, is up to 4e-4 too small on a CPU.
    """
    optimizer = module_optimizer(model, training)
    forward = torch.compile(model, dynamic=False) if compile_model else model
    device = next(model.parameters()).device.type
    low = training.precision == "bfloat16"
    autocast = torch.autocast(device, dtype=torch.bfloat16) if low else nullcontext()
    schedule = (
        training.max_lr,
        training.max_lr * training.min_lr_ratio,
        training.warmup_steps,
        n_steps(training, context_length),
    )
    step = 0

    def take_step(ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal step
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = cosine_schedule(step, *schedule)
        with autocast:
            loss = forward(ids, targets)
        loss.backward()
        exact = global_norm(gradients(model)) if step <= exact_steps else None
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm if exact is None else exact

    return take_step
