"""The model: from token ids to logits.

Legend: B batch · S sequence · D d_model · H heads · K head_dim · F d_ff · V vocab_size.

Read from the bottom: `forward` is `hidden_states` and a matrix, `hidden_states` is an embedding
and a fold over `transformer_block`.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.attention import Attention, fused_attention, multi_head_attention
from lmcore.model.config import ModelConfig
from lmcore.model.kv_cache import KeyValueCache, cached_attention, cached_positions
from lmcore.model.layers import (
    embedding,
    feed_forward,
    gelu,
    layer_norm,
    linear,
    relu2,
    rms_norm,
    silu,
    swiglu as swiglu_layer,
)
from lmcore.model.positions import RotaryTables, model_rotary_tables
from lmcore.params import Params

_ACTIVATIONS = {"gelu": gelu, "silu": silu, "relu2": relu2}


class Block(Protocol):
    """The signature of `transformer_block`; a compiled one has it too."""

    def __call__(
        self,
        params: Mapping[str, Tensor],
        config: ModelConfig,
        x: Tensor,
        *,
        rotary: RotaryTables | tuple[Tensor, Tensor] | None,
        positions: Tensor | None,
        attention: Attention,
        dropout: Tensor | None,
    ) -> Tensor:
        """``[B, S, D]`` to ``[B, S, D]``."""
        ...


def transformer_block(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    x: Tensor,
    *,
    rotary: RotaryTables | tuple[Tensor, Tensor] | None = None,
    positions: Tensor | None = None,
    attention: Attention = fused_attention,
    dropout: Tensor | None = None,
) -> Tensor:
    r"""One block: attention mixes the positions, then the feed-forward layer works on each.

    .. math::
        \text{pre:}\quad  & z = x + \mathrm{MHA}(\mathrm{norm}_1(x)), \quad
                            y = z + \mathrm{FFN}(\mathrm{norm}_2(z)) \\
        \text{post:}\quad & z = \mathrm{norm}_1(x + \mathrm{MHA}(x)), \quad
                            y = \mathrm{norm}_2(z + \mathrm{FFN}(z))

    With factors of dropout :math:`m`, :math:`m_1 \odot \mathrm{MHA}` and
    :math:`m_2 \odot \mathrm{FFN}` stand for the two.

    Args:
      params: the block's own parameters, named as in `block_shapes`
        (``attn.q_proj.weight`` …); matrices may be in half precision.
      config: which norm, where, which feed-forward layer, which rotation.
      x: the residual stream, ``[B, S, D]``, float32 (float64 in tests).
      rotary: tables of `rotary_tables`, or None for no rotation.
      positions: ``[S]`` or ``[B, S]``, integers: rows of the tables; 0, 1, … by default.
      attention: what mixes the values, see `multi_head_attention`.
      dropout: factors of the two, ``[B, 2, D]``, see `lmcore.training.dropout`; None for none.

    Returns:
      ``[B, S, D]``, in the dtype of ``x``: sums are kept in it, products in the matrices' dtype.

    Raises:
      KeyError: when a parameter is missing.
      InputError: when the rotary tables do not fit.

    Example:
      >>> from lmcore.model.shapes import block_shapes
      >>> config = ModelConfig(d_model=8, n_heads=2, norm="none")
      >>> zeros = {name: torch.zeros(shape) for name, shape in block_shapes(config).items()}
      >>> x = torch.ones(1, 3, 8)
      >>> torch.equal(transformer_block(zeros, config, x), x)
      True

    References:
      Xiong et al., 2020, On Layer Normalization in the Transformer Architecture, table 1;
      Vaswani et al., 2017, Attention Is All You Need, section 3.1 (post).
    """

    def mix(h: Tensor) -> Tensor:
        mixed = multi_head_attention(
            h,
            params["attn.q_proj.weight"],
            params["attn.k_proj.weight"],
            params["attn.v_proj.weight"],
            params["attn.output_proj.weight"],
            config.n_heads,
            rotary=rotary,
            layout=config.rope_layout,
            positions=positions,
            attention=attention,
            q_norm=params["attn.q_norm.weight"] if config.qk_norm else None,
            k_norm=params["attn.k_norm.weight"] if config.qk_norm else None,
        )
        return _drop(mixed.to(x.dtype), dropout, 0)

    def think(h: Tensor) -> Tensor:
        return _drop(_feed_forward(params, config, h).to(x.dtype), dropout, 1)

    if config.norm_position == "pre":
        z = x + mix(_normalise(params, config, "ln1", x))
        return z + think(_normalise(params, config, "ln2", z))
    z = _normalise(params, config, "ln1", x + mix(x))
    return _normalise(params, config, "ln2", z + think(z))


def _normalise(params: Mapping[str, Tensor], config: ModelConfig, name: str, x: Tensor) -> Tensor:
    """The configured normalisation with the parameters called ``name``."""
    if config.norm == "rms_norm":
        return rms_norm(x, params[f"{name}.weight"])
    if config.norm == "layer_norm":
        return layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"])
    return x


def _feed_forward(params: Mapping[str, Tensor], config: ModelConfig, x: Tensor) -> Tensor:
    """The configured feed-forward layer."""
    w1, w2 = params["ffn.w1.weight"], params["ffn.w2.weight"]
    if config.feed_forward == "swiglu":
        return swiglu_layer(x, w1, w2, params["ffn.w3.weight"])
    return feed_forward(x, w1, w2, _ACTIVATIONS[config.feed_forward])


def _drop(x: Tensor, dropout: Tensor | None, place: int) -> Tensor:
    """``[B, S, D]`` times the factors of one place, ``[B, D]``, the same at every position."""
    return x if dropout is None else x * dropout[:, place, None, :].to(x.dtype)


def block_params(params: Mapping[str, Tensor], layer: int) -> Params:
    """The parameters of one block, named without the ``layers.N.`` before them.

    Args:
      params: the whole model's parameters.
      layer: the block's number, from 0.

    Returns:
      What `transformer_block` takes; the tensors are the same objects.

    Example:
      >>> block_params({"layers.1.ln1.weight": torch.ones(2)}, layer=1)
      {'ln1.weight': tensor([1., 1.])}
    """
    prefix = f"layers.{layer}."
    return {n.removeprefix(prefix): t for n, t in params.items() if n.startswith(prefix)}


def cast_matrices(params: Mapping[str, Tensor], dtype: torch.dtype | None) -> Params:
    """The parameters with every matrix in ``dtype``; gains and biases stay as they are.

    Args:
      params: name to tensor.
      dtype: bfloat16 or float16 for mixed precision; None changes nothing.

    Returns:
      A new dict; gradients flow through the cast to the parameters given.

    Example:
      >>> cast_matrices({"w": torch.ones(2, 2), "g": torch.ones(2)}, torch.bfloat16)["w"].dtype
      torch.bfloat16

    References:
      Micikevicius et al., 2018, Mixed Precision Training, section 3.1 (float32 master weights).
    """
    if dtype is None:
        return dict(params)
    return {name: t.to(dtype) if t.ndim == 2 else t for name, t in params.items()}


def hidden_states(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    token_ids: Tensor,
    *,
    compute_dtype: torch.dtype | None = None,
    positions: Tensor | None = None,
    cache: KeyValueCache | None = None,
    rotary: RotaryTables | tuple[Tensor, Tensor] | None = None,
    attention: Attention = fused_attention,
    block: Block = transformer_block,
    dropout: Tensor | None = None,
) -> Tensor:
    r"""The model without its output matrix: what each position knows of the token after it.

    .. math:: h_0 = E_{t}, \quad h_{l+1} = \mathrm{block}_l(h_l), \quad h = \mathrm{norm}(h_L)

    Made separate so that a loss can go through the vocabulary in chunks.

    Args:
      params: the model's parameters, float32 (float64 in tests).
      config: the model's configuration.
      token_ids: ``[B, S]``, int64 or int32, S at most the context length.
      compute_dtype: bfloat16 or float16 casts the matrices once, and with them every matrix
        product; the residual stream, norms and softmax stay float32. None casts nothing.
      positions: ``[S]`` or ``[B, S]``, integers below the context length; by default 0, 1, …
        after what the cache holds.
      cache: keys and values of the tokens before these; those of these tokens are written
        into its tensors (see `lmcore.model.kv_cache`).
      rotary: tables of `model_rotary_tables` on the right device; made anew in each call where
        they are not given, which costs a copy to the device.
      attention: what mixes the values; not used with a cache.
      block: `transformer_block`, or a compiled one.
      dropout: factors of what the embedding and each block's two layers write,
        ``[B, 1 + 2L, D]``, see `lmcore.training.dropout`; None for none.

    Returns:
      ``[B, S, D]``, in the dtype of the token embeddings, normalised where the config has norms
      (with post-norm too: its final norm keeps the parameters' names the same).

    Raises:
      InputError: when there are more tokens than the context holds.

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1)
      >>> hidden_states(init_params(config, seed=0), config, torch.tensor([[1, 2, 3]])).shape
      torch.Size([1, 3, 8])

    References:
      Stanford CS336, 2025, assignment 1, section 3.1, figure 1.
    """
    _require_fit(config, token_ids, cache)
    if rotary is None:
        rotary = model_rotary_tables(config, device=token_ids.device)
    if cache is not None and positions is None:
        positions = cached_positions(cache, token_ids)
    x = _drop(embedding(token_ids, params["token_embeddings.weight"]), dropout, 0)  # [B, S, D]
    for layer in range(config.n_layers):
        x = block(
            cast_matrices(block_params(params, layer), compute_dtype),
            config,
            x,
            rotary=rotary,
            positions=positions,
            attention=attention if cache is None else cached_attention(cache, layer),
            dropout=None if dropout is None else dropout[:, 1 + 2 * layer : 3 + 2 * layer],
        )
    return _normalise(params, config, "ln_final", x)


def _require_fit(config: ModelConfig, token_ids: Tensor, cache: KeyValueCache | None) -> None:
    """Raise InputError when the tokens, after what the cache holds, pass the context."""
    before = 0 if cache is None else cache.length
    if before + token_ids.shape[-1] > config.context_length:
        raise InputError(
            f"the sequence has {before + token_ids.shape[-1]} tokens: the model's context holds "
            f"{config.context_length}; give fewer, or train with a longer --model.context-length"
        )


def output_matrix(params: Mapping[str, Tensor]) -> Tensor:
    """The matrix that turns hidden states into logits: the head, or the tied embeddings.

    Args:
      params: the model's parameters.

    Returns:
      ``[V, D]``: ``lm_head.weight`` where there is one, else ``token_embeddings.weight``.

    Example:
      >>> output_matrix({"token_embeddings.weight": torch.ones(3, 2)}).shape
      torch.Size([3, 2])

    References:
      Press and Wolf, 2017, Using the Output Embedding to Improve Language Models, section 2.
    """
    head = params.get("lm_head.weight")
    return params["token_embeddings.weight"] if head is None else head


def output_logits(
    params: Mapping[str, Tensor], hidden: Tensor, *, compute_dtype: torch.dtype | None = None
) -> Tensor:
    r"""Unnormalised log-probabilities of the next token.

    .. math:: \ell = h \, W_\mathrm{head}^\top

    Args:
      params: the model's parameters.
      hidden: ``[..., D]``, of `hidden_states`.
      compute_dtype: the dtype of the product, which accumulates in float32; None casts nothing.

    Returns:
      ``[..., V]``, float32 (float64 for float64 parameters), so that the loss is too.

    Example:
      >>> output_logits({"lm_head.weight": torch.eye(2)}, torch.tensor([3.0, 4.0]))
      tensor([3., 4.])

    References:
      Stanford CS336, 2025, assignment 1, section 3.1.
    """
    weight = output_matrix(params)
    logits = linear(hidden, weight if compute_dtype is None else weight.to(compute_dtype))
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def forward(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    token_ids: Tensor,
    *,
    compute_dtype: torch.dtype | None = None,
    positions: Tensor | None = None,
    cache: KeyValueCache | None = None,
    rotary: RotaryTables | tuple[Tensor, Tensor] | None = None,
    attention: Attention = fused_attention,
    block: Block = transformer_block,
    dropout: Tensor | None = None,
) -> Tensor:
    r"""Logits of the next token at every position.

    .. math:: \ell_{bs} = W_\mathrm{head} \, h_{bs}, \quad
        P(t_{s+1} \mid t_{\le s}) = \mathrm{softmax}(\ell_{bs})

    Position s sees tokens 0 … s only. Runs under `torch.func.grad_and_value` and
    `torch.compile`; there, hand ``rotary`` in.

    Args:
      params: the model's parameters by name, see `parameter_shapes`; names that the
        configuration does not use are ignored.
      config: the model's configuration.
      token_ids: ``[B, S]``, int64 or int32, each below V, S at most the context length.
      compute_dtype: bfloat16 or float16 for mixed precision, see `hidden_states`.
      positions: ``[S]`` or ``[B, S]``, integers below the context length; 0, 1, … by default.
      cache: keys and values of earlier tokens; the caller gives its tensors up to be written.
      rotary: tables of `model_rotary_tables`; made anew in each call where not given.
      attention: what mixes the values: `fused_attention`, `flash_attention` or
        `scaled_dot_product_attention`.
      block: `transformer_block`, or a compiled one.
      dropout: factors of dropout, see `hidden_states`; None for none.

    Returns:
      ``[B, S, V]``, float32 (float64 for float64 parameters).

    Raises:
      InputError: when there are more tokens than the context holds.
      IndexError: when a token id is not below V (on the CPU).

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1)
      >>> forward(init_params(config, seed=0), config, torch.tensor([[1, 2, 3]])).shape
      torch.Size([1, 3, 10])

    References:
      Stanford CS336, 2025, assignment 1, section 3; Radford et al., 2019, Language Models are
      Unsupervised Multitask Learners, section 2.3 (decoder only, pre-norm).
    """
    hidden = hidden_states(
        params,
        config,
        token_ids,
        compute_dtype=compute_dtype,
        positions=positions,
        cache=cache,
        rotary=rotary,
        attention=attention,
        block=block,
        dropout=dropout,
    )
    return output_logits(params, hidden, compute_dtype=compute_dtype)
