"""One block of the model: attention and the feed-forward layer, each with its norm and residual.

Legend: B batch · S sequence · D d_model.

Read from the top: `transformer_block` is two sums, and what it needs stands below it.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from lmcore.model.attention import Attention, fused_attention, multi_head_attention
from lmcore.model.config import ModelConfig
from lmcore.model.layers import (
    feed_forward,
    gelu,
    layer_norm,
    relu2,
    rms_norm,
    silu,
    swiglu as swiglu_layer,
)
from lmcore.model.positions import RotaryTables
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
      >>> import torch
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
        return drop_channels(mixed.to(x.dtype), dropout, 0)

    def think(h: Tensor) -> Tensor:
        return drop_channels(_feed_forward(params, config, h).to(x.dtype), dropout, 1)

    if config.norm_position == "pre":
        z = x + mix(normalise(params, config, "ln1", x))
        return z + think(normalise(params, config, "ln2", z))
    z = normalise(params, config, "ln1", x + mix(x))
    return normalise(params, config, "ln2", z + think(z))


def normalise(params: Mapping[str, Tensor], config: ModelConfig, name: str, x: Tensor) -> Tensor:
    """The normalisation that the configuration names, or none.

    Args:
      params: where its gain is, and with LayerNorm its bias.
      config: which one.
      name: what its parameters' names begin with: ``ln1``, ``ln2``, ``ln_final``.
      x: ``[..., D]``.

    Returns:
      ``[..., D]``, in the dtype of ``x``.

    Example:
      >>> import torch
      >>> normalise({}, ModelConfig(norm="none"), "ln1", torch.tensor([3.0, 4.0]))
      tensor([3., 4.])
    """
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


def drop_channels(x: Tensor, dropout: Tensor | None, place: int) -> Tensor:
    """Dropout of one place: its factors are the same at every position of a sequence.

    Args:
      x: what is to be added to the residual stream, ``[B, S, D]``.
      dropout: factors, ``[B, places, D]``, see `lmcore.training.dropout`; None changes nothing.
      place: which of the places this is.

    Returns:
      ``[B, S, D]``, in the dtype of ``x``.

    Example:
      >>> import torch
      >>> drop_channels(torch.ones(1, 2, 2), torch.tensor([[[0.0, 2.0]]]), place=0)
      tensor([[[0., 2.],
               [0., 2.]]])
    """
    return x if dropout is None else x * dropout[:, place, None, :].to(x.dtype)


def block_params(params: Mapping[str, Tensor], layer: int) -> Params:
    """The parameters of one block, named without the ``layers.N.`` before them.

    Args:
      params: the whole model's parameters.
      layer: the block's number, from 0.

    Returns:
      What `transformer_block` takes; the tensors are the same objects.

    Example:
      >>> import torch
      >>> block_params({"layers.1.ln1.weight": torch.ones(2)}, layer=1)
      {'ln1.weight': tensor([1., 1.])}
    """
    prefix = f"layers.{layer}."
    return {n.removeprefix(prefix): t for n, t in params.items() if n.startswith(prefix)}
