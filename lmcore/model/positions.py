"""Rotary position encoding: turn pairs of dimensions by an angle that grows with the position.

Legend: B batch · S sequence · H heads · K head_dim · C context_length.

A rotation by :math:`m\\theta` of the query and by :math:`n\\theta` of the key leaves a score that
depends on :math:`m - n` alone, so nothing absolute has to be learned.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig, RopeLayout


class RotaryTables(NamedTuple):
    """Cosine and sine of every position's angles, ``[C, K/2]`` each."""

    cos: Tensor
    sin: Tensor


def rotary_tables(
    head_dim: int,
    context_length: int,
    theta: float = 10_000.0,
    *,
    device: torch.device | str | None = None,
) -> RotaryTables:
    r"""Cosines and sines of the angles by which each position turns each pair.

    .. math:: \mathrm{angle}_{m,i} = m \, \theta^{-2i/K}, \quad 0 \le i < K/2

    Worked out in float64 on the CPU (a float32 angle is off by 6e-4 at position 10,000, and not
    every device has float64), then rounded to float32 once. Whoever trains makes the tables
    once and hands them to every call.

    Args:
      head_dim: K, even.
      context_length: number of positions, C.
      theta: base of the wavelengths, positive.
      device: where the tables go; the CPU by default.

    Returns:
      ``(cos, sin)``, ``[C, K/2]`` each, float32.

    Raises:
      InputError: when ``head_dim`` is odd.

    Example:
      >>> cos, sin = rotary_tables(head_dim=4, context_length=2)
      >>> sin
      tensor([[0.0000, 0.0000],
              [0.8415, 0.0100]])

    References:
      Su et al., 2021, RoFormer, eq. 15 and section 3.2.2.
    """
    _require_even(head_dim)
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim
    positions = torch.arange(context_length, dtype=torch.float64, device="cpu")
    angles = positions[:, None] * torch.pow(theta, -exponents)
    cos, sin = angles.cos().float(), angles.sin().float()
    return RotaryTables(cos.to(device), sin.to(device))


def model_rotary_tables(
    config: ModelConfig, *, device: torch.device | str | None = None
) -> RotaryTables | None:
    """The tables that a model of this configuration needs, or None where it has no rotation.

    Args:
      config: its head_dim, context_length, rope_theta and positions are read.
      device: where the tables go; the CPU by default.

    Returns:
      `rotary_tables` of the whole context, or None with ``positions="none"``.

    Raises:
      InputError: when the head_dim is odd.

    Example:
      >>> model_rotary_tables(ModelConfig(d_model=64, n_heads=4, context_length=32)).cos.shape
      torch.Size([32, 8])
    """
    if config.positions == "none":
        return None
    return rotary_tables(config.head_dim, config.context_length, config.rope_theta, device=device)


def apply_rotary_emb(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    layout: RopeLayout = "half_split",
    positions: Tensor | None = None,
) -> Tensor:
    r"""Rotate each pair of dimensions of ``x`` by the angle of its position.

    .. math:: \begin{pmatrix} a' \\ b' \end{pmatrix} =
        \begin{pmatrix} \cos & -\sin \\ \sin & \cos \end{pmatrix}
        \begin{pmatrix} a \\ b \end{pmatrix}

    The pair (a, b) is dimensions i and i + K/2 with ``half_split`` (Hugging Face's layout) and
    2i and 2i + 1 with ``interleaved`` (the paper's and the CS336 assignment's). The two differ
    by a fixed permutation of the rows of the query and key matrices.

    Args:
      x: queries or keys, ``[B, S, H, K]`` (any leading axes), any floating dtype; the rotation
        is worked out in float32 at least.
      cos: ``[S, K/2]``, or longer: row m is for position m.
      sin: as ``cos``.
      layout: which dimensions form a pair.
      positions: ``[S]`` or ``[B, S]``, integers: the row of the tables for each token; by
        default 0, 1, …, S - 1.

    Returns:
      The shape and dtype of ``x``.

    Raises:
      InputError: when K is odd, when the tables are not K/2 wide, or when they have fewer than
        S rows and no positions are given.

    Example:
      >>> cos, sin = rotary_tables(head_dim=2, context_length=2)
      >>> apply_rotary_emb(torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2), cos, sin).squeeze()
      tensor([[1.0000, 0.0000],
              [0.5403, 0.8415]])

    References:
      Su et al., 2021, RoFormer, eq. 14, 15 and 34.
    """
    _check_tables(x, cos, sin, positions)
    rows = slice(x.shape[-3]) if positions is None else positions
    cos, sin = cos[rows].unsqueeze(-2), sin[rows].unsqueeze(-2)  # [..., S, 1, K/2]
    if layout == "half_split":
        a, b = x.chunk(2, dim=-1)  # [..., S, H, K/2] each
        rotated = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:
        a, b = x[..., 0::2], x[..., 1::2]
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    return rotated.to(x.dtype)


def _check_tables(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None) -> None:
    """Raise InputError where the tables cannot turn ``x``."""
    length, head_dim = x.shape[-3], x.shape[-1]
    _require_even(head_dim)
    if cos.shape != sin.shape or cos.shape[-1] != head_dim // 2:
        raise InputError(
            f"the rotary tables have shapes {tuple(cos.shape)} and {tuple(sin.shape)}: both must "
            f"be [S, {head_dim // 2}] for a head_dim of {head_dim}; make them with "
            f"rotary_tables({head_dim}, …)"
        )
    if positions is None and cos.shape[0] < length:
        raise InputError(
            f"the rotary tables have {cos.shape[0]} positions: a sequence of {length} tokens "
            f"needs as many; make them with a context_length of at least {length}"
        )


def _require_even(head_dim: int) -> None:
    if head_dim % 2:
        raise InputError(
            f"head_dim is {head_dim}: it must be even, because RoPE rotates pairs of dimensions; "
            "change --model.d-model or --model.n-heads, or set --model.positions none"
        )
