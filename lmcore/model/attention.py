"""Attention by definition, and the layer around it.

Legend: B batch · S sequence (of queries) · T sequence (of keys) · D d_model · H heads ·
K head_dim.

Three functions compute the same attention: `scaled_dot_product_attention` here is the
definition, `lmcore.model.flash_attention` shows how it is done in tiles, and `fused_attention`
is PyTorch's kernel, which training uses.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.config import RopeLayout
from lmcore.model.layers import at_least_float32, linear, rms_norm, softmax
from lmcore.model.positions import RotaryTables, apply_rotary_emb


class Attention(Protocol):
    """What mixes the values of a layer: from q, k, v ``[B, H, S, K]`` to ``[B, H, S, K]``."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool) -> Tensor:
        """The mixed values; with ``is_causal`` query i sees keys 0 … i only."""
        ...


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    r"""Mix the values by how well their keys answer each query: the definition, S×T and all.

    .. math:: \mathrm{attention}(Q, K, V) = \mathrm{softmax}(Q K^\top / \sqrt{d_k}) \, V

    Args:
      q: queries, ``[..., S, K]``, any floating dtype; the softmax is worked out in float32 at
        least.
      k: keys, ``[..., T, K]``.
      v: values, ``[..., T, Kv]``.
      mask: bool, broadcastable to ``[..., S, T]``; True where the query may see the key. A
        query that may see none gets zeros, as in PyTorch.
      is_causal: query i sees keys 0 … i only; together with ``mask``, both must allow it.

    Returns:
      ``[..., S, Kv]``, in the dtype of ``q``.

    Raises:
      InputError: when ``mask`` is not bool.

    Example:
      >>> q, k, v = torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([[1.0], [3.0]])
      >>> scaled_dot_product_attention(q, k, v, is_causal=True)
      tensor([[1.],
              [2.]])

    References:
      Vaswani et al., 2017, Attention Is All You Need, eq. 1.
    """
    if mask is not None and mask.dtype != torch.bool:
        raise InputError(
            f"the attention mask is {mask.dtype}: it must be bool, True where a query may see "
            "a key; compare it with 0 first"
        )
    scores = q @ k.mT / q.shape[-1] ** 0.5  # [..., S, T]
    allowed = _allowed(scores, mask, is_causal)
    if allowed is None:
        return softmax(scores) @ v
    # The least finite number, not minus infinity: a row with nothing allowed then has finite
    # gradients, and the second fill makes its weights zero.
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return softmax(scores).masked_fill(~allowed, 0.0) @ v


def _allowed(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Which key each query may see, or None when it may see all."""
    if not is_causal:
        return mask
    causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return causal if mask is None else causal & mask


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool) -> Tensor:
    r"""Attention by PyTorch's fused kernel, which training uses.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{d_k}) \, V

    On one core it takes half the time of the definition, forward and backward (16 sequences of
    256 tokens, 4 heads of 32), and holds no S×T matrix.

    Args:
      q: queries, ``[B, H, S, K]``, any floating dtype.
      k: keys, ``[B, H, T, K]``.
      v: values, ``[B, H, T, K]``.
      is_causal: query i sees keys 0 … i only.

    Returns:
      ``[B, H, S, K]``, in the dtype of ``q``.

    Example:
      >>> x = torch.ones(1, 1, 2, 4)
      >>> fused_attention(x, x, x, is_causal=True).sum()
      tensor(8.)

    References:
      Vaswani et al., 2017, eq. 1; Dao et al., 2022, FlashAttention, algorithm 1.
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def multi_head_attention(
    x: Tensor,
    q_proj: Tensor,
    k_proj: Tensor,
    v_proj: Tensor,
    output_proj: Tensor,
    n_heads: int,
    *,
    rotary: RotaryTables | tuple[Tensor, Tensor] | None = None,
    layout: RopeLayout = "half_split",
    positions: Tensor | None = None,
    attention: Attention = fused_attention,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
) -> Tensor:
    r"""Causal self-attention in ``n_heads`` parts of the width, then mixed by one matrix.

    .. math:: y = W_O \, [\mathrm{head}_1; \dots; \mathrm{head}_H], \quad
        \mathrm{head}_h = \mathrm{attention}(R\,W_Q^h x,\; R\,W_K^h x,\; W_V^h x)

    where R is the rotation of `apply_rotary_emb`, and head h owns rows hK … (h+1)K - 1 of each
    of the three matrices. With gains, R is applied to :math:`\mathrm{rms\_norm}(W_Q^h x)` and
    :math:`\mathrm{rms\_norm}(W_K^h x)`: scores then cannot grow with the matrices. The gains are
    learnt, because without them a score is at most :math:`\sqrt{K}`, which bounds how sharply a
    query can choose.

    Args:
      x: ``[B, S, D]``, any floating dtype; it is cast to the dtype of the matrices.
      q_proj: ``[D, D]``.
      k_proj: ``[D, D]``.
      v_proj: ``[D, D]``.
      output_proj: ``[D, D]``.
      n_heads: H; it divides D.
      rotary: tables of `rotary_tables` for head_dim D/H, or None for no rotation.
      layout: which dimensions RoPE rotates together.
      positions: ``[S]`` or ``[B, S]``, integers: rows of the tables; 0, 1, … by default.
      attention: what mixes the values: `fused_attention`, `scaled_dot_product_attention`,
        `flash_attention`, or one that reads a key-value cache.
      q_norm: gains of the queries' norm, ``[K]``, the same for all heads; None for no norm.
      k_norm: gains of the keys' norm, likewise.

    Returns:
      ``[B, S, D]``, in the dtype of the matrices.

    Raises:
      InputError: when ``n_heads`` does not divide D, the tables do not fit, or one of the two gains
        is given alone.

    Example:
      >>> x, eye = torch.ones(1, 3, 4), torch.eye(4)
      >>> multi_head_attention(x, eye, eye, eye, eye, n_heads=2).shape
      torch.Size([1, 3, 4])

    References:
      Vaswani et al., 2017, Attention Is All You Need, section 3.2.2; Su et al., 2021, RoFormer;
      Henry et al., 2020, Query-Key Normalization for Transformers, section 3 (there by the l2 norm
      and one learnt scale).
    """
    if x.shape[-1] % n_heads:
        raise InputError(
            f"d_model is {x.shape[-1]}: it must be a multiple of n_heads ({n_heads}); change "
            "--model.d-model or --model.n-heads"
        )
    # One product for the three matrices: 0.85 of the time of three (d_model 128, one core);
    # norm and rotation work on queries and keys together, as on twice the heads.
    qkv = linear(x, torch.cat((q_proj, k_proj, v_proj)))
    if qkv.device.type == "cpu":
        # PyTorch's attention on a CPU takes 2.7 times as long backward in bfloat16 as in float32.
        qkv = at_least_float32(qkv)
    qkv = rearrange(qkv, "... s (n k) -> ... s n k", n=3 * n_heads)
    qk, v = qkv.split((2 * n_heads, n_heads), dim=-2)
    if (q_norm is None) != (k_norm is None):
        raise InputError("q_norm and k_norm go together: give both gains, or none")
    if q_norm is not None and k_norm is not None:
        gains = torch.stack((q_norm, k_norm)).repeat_interleave(n_heads, dim=0)  # [2H, K]
        qk = rms_norm(qk, gains)
    if rotary is not None:
        qk = apply_rotary_emb(qk, *rotary, layout=layout, positions=positions)
    q, k = qk.chunk(2, dim=-2)
    q, k, v = (rearrange(heads, "... s h k -> ... h s k") for heads in (q, k, v))
    mixed = attention(q, k, v, is_causal=True)
    return linear(rearrange(mixed, "... h s k -> ... s (h k)"), output_proj)
