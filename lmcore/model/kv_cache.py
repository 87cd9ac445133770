"""Keys and values of the tokens already read, so that the next one costs one position's work.

Legend: L n_layers · B batch · S new tokens · H heads · C context_length · K head_dim.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lmcore.model.attention import Attention
from lmcore.model.config import ModelConfig


class KeyValueCache(NamedTuple):
    """Room for a whole context, of which the first ``length`` positions are filled.

    The two tensors are written in place by whoever is given the cache; ``length`` is a plain
    value, so `advance` makes the next state.
    """

    keys: Tensor
    """``[L, B, H, C, K]``, rotated already."""
    values: Tensor
    """``[L, B, H, C, K]``."""
    length: int
    """Number of positions filled."""


def empty_cache(
    config: ModelConfig,
    batch_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> KeyValueCache:
    """A cache with room for the whole context and nothing in it.

    Args:
      config: its layers, heads, head_dim and context_length give the shape.
      batch_size: B.
      dtype: that of the matrix products (the parameters', or the compute_dtype).
      device: where the parameters are.

    Returns:
      A `KeyValueCache` of length 0, of ``2·L·B·H·C·K`` numbers.

    Example:
      >>> empty_cache(ModelConfig(), batch_size=2).keys.shape
      torch.Size([3, 2, 4, 256, 32])

    References:
      Pope et al., 2022, Efficiently Scaling Transformer Inference, section 3.
    """
    heads = (config.n_heads, config.context_length, config.head_dim)
    shape = (config.n_layers, batch_size, *heads)
    keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
    return KeyValueCache(keys, values, 0)


def advance(cache: KeyValueCache, n_tokens: int) -> KeyValueCache:
    """The cache after ``n_tokens`` more have been written by a forward pass.

    Args:
      cache: the state before; its tensors are shared with the result.
      n_tokens: how many tokens the forward pass read.

    Returns:
      The same tensors with the greater length.

    Example:
      >>> advance(empty_cache(ModelConfig(), batch_size=1), 5).length
      5
    """
    return cache._replace(length=cache.length + n_tokens)


def cached_positions(cache: KeyValueCache, token_ids: Tensor) -> Tensor:
    """The positions of new tokens: those after what the cache holds, ``[S]``, int64.

    Args:
      cache: the state before.
      token_ids: ``[B, S]``; only its length and device are read.

    Returns:
      ``length, length + 1, …``, on the device of ``token_ids``.

    Example:
      >>> cached_positions(advance(empty_cache(ModelConfig(), 1), 5), torch.zeros(1, 2))
      tensor([5, 6])
    """
    return torch.arange(cache.length, cache.length + token_ids.shape[-1], device=token_ids.device)


def cached_attention(cache: KeyValueCache, layer: int) -> Attention:
    r"""The attention of one layer over what the cache holds and the new tokens.

    .. math:: \mathrm{softmax}(q_s K_{\le s}^\top / \sqrt{d_k}) \, V_{\le s}

    Args:
      cache: the state before; the new keys and values are written behind its length.
      layer: which layer's, from 0.

    Returns:
      A function of q, k, v ``[B, H, S, K]`` of the new tokens, always causal.

    Example:
      >>> cache = empty_cache(ModelConfig(n_layers=1, n_heads=1, d_model=2), batch_size=1)
      >>> x = torch.ones(1, 1, 3, 2)
      >>> cached_attention(cache, 0)(x, x, 2 * x, is_causal=True)[0, 0, 0]
      tensor([2., 2.])

    References:
      Pope et al., 2022, Efficiently Scaling Transformer Inference, section 3.
    """

    def attention(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool) -> Tensor:
        start, end = cache.length, cache.length + q.shape[-2]
        keys, values = cache.keys[layer], cache.values[layer]
        keys[..., start:end, :] = k
        values[..., start:end, :] = v
        seen = (keys[..., :end, :].to(q.dtype), values[..., :end, :].to(q.dtype))
        if start == 0 or end == start + 1:  # all new, or one that sees all
            return F.scaled_dot_product_attention(q, *seen, is_causal=start == 0)
        columns = torch.arange(end, device=q.device)
        mask = columns <= columns[start:, None]  # [S, end]: row s sees itself and all before it
        return F.scaled_dot_product_attention(q, *seen, attn_mask=mask)

    return attention
