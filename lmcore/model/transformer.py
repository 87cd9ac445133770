"""The model: from token ids to logits.

Legend: B batch · S sequence · D d_model · L n_layers · V vocab_size.

Read from the bottom: `forward` is `hidden_states` and a matrix, `hidden_states` is an embedding
and a fold over `transformer_block`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.attention import Attention, fused_attention
from lmcore.model.block import Block, block_params, drop_channels, normalise, transformer_block
from lmcore.model.config import ModelConfig
from lmcore.model.kv_cache import KeyValueCache, cached_attention, cached_positions
from lmcore.model.layers import embedding, linear
from lmcore.model.positions import RotaryTables, model_rotary_tables
from lmcore.params import Params


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
    x = embedding(token_ids, params["token_embeddings.weight"])  # [B, S, D]
    x = drop_channels(x, dropout, 0)
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
    return normalise(params, config, "ln_final", x)


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
