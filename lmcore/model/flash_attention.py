"""Attention in tiles: the same numbers as the definition, never holding S×T of them.

Legend: S sequence (of queries) · T sequence (of keys) · K head_dim · R rows of a tile of
queries · C columns of a tile of keys.

The oracle is `lmcore.model.attention.scaled_dot_product_attention`. The tricks, and what each
one buys:

- online softmax: a running maximum and a running sum for each row make one pass over the keys
  enough, so a tile of scores (R×C) is all that ever exists;
- only the output and the log-sum-exp of each row are kept for the backward pass, S·(K + 1)
  numbers in the place of S·T; the weights are computed again, tile by tile;
- causal: tiles wholly above the diagonal are skipped, which halves the work.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lmcore.errors import InputError


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool = False,
    query_block: int = 64,
    key_block: int = 64,
) -> Tensor:
    r"""Attention by tiles with an online softmax and a backward pass of its own.

    With scores :math:`S_j = Q K_j^\top / \sqrt{d_k}` of the j-th tile of keys, each row keeps

    .. math::
        m_j &= \max(m_{j-1}, \mathrm{rowmax}\, S_j), \quad P_j = e^{S_j - m_j} \\
        \ell_j &= e^{m_{j-1} - m_j} \ell_{j-1} + \mathrm{rowsum}\, P_j, \quad
        O_j = e^{m_{j-1} - m_j} O_{j-1} + P_j V_j

    and at the end :math:`O / \ell` is the output, :math:`L = m + \log \ell` the log-sum-exp. The
    backward pass rebuilds :math:`P = e^{S - L}`, and with :math:`D = \mathrm{rowsum}(dO \circ O)`

    .. math::
        dV = P^\top dO, \quad dS = P \circ (dO V^\top - D), \quad
        dQ = dS\, K / \sqrt{d_k}, \quad dK = dS^\top Q / \sqrt{d_k}

    Works under `torch.func` transforms, for gradients of gradients too.

    Args:
      q: queries, ``[..., S, K]``, any floating dtype and strides; tiles are worked out in
        float32 at least.
      k: keys, ``[..., T, K]``, with the leading axes of ``q``.
      v: values, ``[..., T, Kv]``, with the leading axes of ``q``.
      is_causal: query i sees keys 0 … i only.
      query_block: R, rows of a tile; changes the last bits and the memory, not the meaning.
      key_block: C, columns of a tile.

    Returns:
      ``[..., S, Kv]``, in the dtype of ``q``.

    Raises:
      InputError: when the shapes do not fit, there is no key, or a block size is not positive.

    Example:
      >>> q, k, v = torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([[1.0], [3.0]])
      >>> flash_attention(q, k, v, is_causal=True)
      tensor([[1.],
              [2.]])

    References:
      Dao et al., 2022, FlashAttention, algorithms 1 and 4; Dao, 2023, FlashAttention-2,
      algorithms 1 and 2; Milakov and Gimelshein, 2018, Online normalizer calculation for
      softmax, algorithm 3.
    """
    _check(q, k, v, query_block, key_block)
    out, _ = _FlashAttention.apply(q, k, v, is_causal, query_block, key_block)  # type: ignore[misc]
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, query_block: int, key_block: int) -> None:
    """Raise InputError where the shapes or blocks cannot be worked with."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not (q.shape[:-2] == k.shape[:-2] == v.shape[:-2]):
        raise InputError(f"{shapes}: the leading axes must be equal; expand them first")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise InputError(
            f"{shapes}: q and k must share the last axis, k and v the one before; "
            "pass [..., S, K], [..., T, K] and [..., T, Kv]"
        )
    if k.shape[-2] == 0:
        raise InputError(f"{shapes}: there must be at least one key")
    if query_block < 1 or key_block < 1:
        raise InputError(
            f"query_block is {query_block} and key_block is {key_block}: both must be at least 1"
        )


class _FlashAttention(torch.autograd.Function):
    """Output and log-sum-exp of each row, with the tiled backward pass.

    In ``setup_context`` form, which torch.func needs. The log-sum-exp is an output with a
    gradient of its own, so that the backward pass can itself be differentiated.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, is_causal: bool, query_block: int, key_block: int
    ) -> tuple[Tensor, Tensor]:
        return _forward_tiles(q, k, v, is_causal, query_block, key_block)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, *ctx.settings = inputs
        ctx.save_for_backward(q, k, v, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        found = _FlashBackward.apply(*ctx.saved_tensors, *grads, *ctx.settings)
        return (*found, None, None, None)


class _FlashBackward(torch.autograd.Function):
    """The tiled backward pass as one operation, which keeps its inputs and nothing else.

    `torch.func.grad` records the backward pass as it does the forward one, so that it can be
    differentiated again. Recorded operation by operation, every tile of weights would stay: memory
    would grow with S·T after all. Only where it is differentiated again do they stay.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        return _backward_tiles(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:-3])
        ctx.settings = inputs[-3:]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        def tiles(*tensors: Any) -> tuple[Tensor, Tensor, Tensor]:
            return _backward_tiles(*tensors, *ctx.settings)

        pull_back = torch.func.vjp(tiles, *ctx.saved_tensors)[1]
        return (*pull_back(grads), None, None, None)


def _forward_tiles(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, query_block: int, key_block: int
) -> tuple[Tensor, Tensor]:
    """The output ``[..., S, Kv]`` and the log-sum-exp ``[..., S, 1]``, one tile row at a time."""
    rows = [
        _one_tile_row(q, k, v, row, is_causal, key_block)
        for row in _slices(q.shape[-2], query_block)
    ]
    out, log_sum = (torch.cat(parts, dim=-2) for parts in zip(*rows, strict=True))
    return out.to(q.dtype), log_sum


def _one_tile_row(
    q: Tensor, k: Tensor, v: Tensor, row: slice, is_causal: bool, key_block: int
) -> tuple[Tensor, Tensor]:
    """The online softmax of the queries in ``row`` over all keys that they may see."""
    scaled = _wide(q[..., row, :]) / q.shape[-1] ** 0.5
    row_shape = scaled.shape[:-1]
    # The first tile holds key 0, which every row sees: no maximum stays at minus infinity.
    greatest = scaled.new_full((*row_shape, 1), float("-inf"))
    total = scaled.new_zeros((*row_shape, 1))
    mixed = scaled.new_zeros((*row_shape, v.shape[-1]))
    for column in _columns(k, row, is_causal, key_block):
        scores = _scores(scaled, k, row, column, is_causal)
        raised = torch.maximum(greatest, scores.amax(dim=-1, keepdim=True))
        rescale = torch.exp(greatest - raised)
        weights = torch.exp(scores - raised)
        total = rescale * total + weights.sum(dim=-1, keepdim=True)
        mixed = rescale * mixed + weights @ _wide(v[..., column, :])
        greatest = raised
    return mixed / total, greatest + torch.log(total)


def _backward_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sum: Tensor,
    d_out: Tensor,
    d_log_sum: Tensor,
    is_causal: bool,
    query_block: int,
    key_block: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; the weights are rebuilt from the log-sum-exp."""
    scale = q.shape[-1] ** -0.5
    # What every score of a row loses: rowsum(dO O), less the log-sum-exp's own gradient.
    shared = (_wide(d_out) * _wide(out)).sum(dim=-1, keepdim=True) - d_log_sum
    d_q: list[Tensor] = []
    d_k, d_v = (torch.zeros_like(_wide(t)).split(key_block, dim=-2) for t in (k, v))
    d_k, d_v = list(d_k), list(d_v)
    for row in _slices(q.shape[-2], query_block):
        scaled, d_row = _wide(q[..., row, :]) * scale, _wide(d_out[..., row, :])
        d_q_row = torch.zeros_like(scaled)
        for j, column in enumerate(_columns(k, row, is_causal, key_block)):
            scores = _scores(scaled, k, row, column, is_causal)
            weights = torch.exp(scores - log_sum[..., row, :])
            d_weights = d_row @ _wide(v[..., column, :]).mT
            d_scores = weights * (d_weights - shared[..., row, :])
            d_v[j] = d_v[j] + weights.mT @ d_row
            d_k[j] = d_k[j] + d_scores.mT @ scaled
            d_q_row = d_q_row + d_scores @ _wide(k[..., column, :]) * scale
        d_q.append(d_q_row)
    cat_q, cat_k, cat_v = (torch.cat(parts, dim=-2) for parts in (d_q, d_k, d_v))
    return cat_q.to(q.dtype), cat_k.to(k.dtype), cat_v.to(v.dtype)


def _scores(scaled: Tensor, k: Tensor, row: slice, column: slice, is_causal: bool) -> Tensor:
    """One tile of scores, ``[..., R, C]``, with what lies above the diagonal at minus infinity."""
    scores = scaled @ _wide(k[..., column, :]).mT
    if not is_causal or column.stop <= row.start + 1:
        return scores
    queries = torch.arange(row.start, row.stop, device=k.device)[:, None]
    keys = torch.arange(column.start, column.stop, device=k.device)
    return scores.masked_fill(keys > queries, float("-inf"))


def _columns(k: Tensor, row: slice, is_causal: bool, key_block: int) -> Iterator[slice]:
    """The tiles of keys of which a query of ``row`` sees any."""
    columns = _slices(k.shape[-2], key_block)
    return (column for column in columns if not is_causal or column.start < row.stop)


def _slices(length: int, block: int) -> Iterator[slice]:
    """``length`` positions in runs of ``block``; the last run may be shorter."""
    return (slice(start, min(start + block, length)) for start in range(0, length, block))


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least; no copy where it already is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
