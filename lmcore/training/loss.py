"""The loss of next-token prediction: by definition, and without ever holding all logits.

Shapes: N tokens · D d_model · V vocab_size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lmcore.optimizer.branch import may_branch

IGNORE = -100
"""The target of a position that is not scored (padding), unless another is named."""


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = IGNORE) -> Tensor:
    r"""Return the mean negative log-probability of the targets, in nats a token.

    .. math::
       \ell = -\frac{1}{N} \sum_n \log \mathrm{softmax}(o_n)_{x_n}
            = \frac{1}{N} \sum_n \Big( \log \sum_v e^{o_{nv} - m_n} - (o_{n x_n} - m_n) \Big),
       \quad m_n = \max_v o_{nv}

    With the largest logit subtracted no exponential overflows, and with log and exp cancelled none
    of the probability that rounds to zero is lost.

    Args:
      logits: ``[..., V]``, floating; float16 and bfloat16 are computed in float32.
      targets: ``[...]``, integers in [0, V), or ``ignore_index``.
      ignore_index: targets that do not count, neither in the sum nor in N.

    Returns:
      A 0-d tensor: float64 for float64 logits, float32 otherwise. Without a target that counts: 0.

    Raises:
      ValueError: the shapes of logits and targets do not fit each other.

    Example:
      >>> cross_entropy(torch.zeros(1, 8), torch.tensor([3]))
      tensor(2.0794)

    References:
      Goodfellow, Bengio and Courville, 2016, Deep Learning, eq. 4.1 (stable softmax), 6.2.2.3.
    """
    nats = token_nats(logits, targets, ignore_index)
    return nats.sum() / count_tokens(targets, ignore_index).clamp(min=1)


def token_nats(logits: Tensor, targets: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return the negative log-probability of each target, in nats; 0 where it is ignored.

    Args:
      logits: ``[..., V]``, as in ``cross_entropy``.
      targets: ``[...]``, as in ``cross_entropy``.
      ignore_index: the target that is not scored.

    Returns:
      ``[...]``, float64 for float64 logits, float32 otherwise.

    Raises:
      ValueError: the shapes of logits and targets do not fit each other.

    Example:
      >>> token_nats(torch.zeros(2, 4), torch.tensor([1, -100]))
      tensor([1.3863, 0.0000])
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits {list(logits.shape)} and targets {list(targets.shape)} do not fit: "
            "logits have one axis more, the vocabulary, and the others are equal"
        )
    counted = targets != ignore_index
    # log_softmax is the formula above in one kernel each way: 0.69 of the time of the same by
    # amax, exp, sum, log and gather (2,048 tokens, vocabulary 2,048, one CPU thread).
    log_probabilities = torch.log_softmax(logits.to(_loss_dtype(logits)), dim=-1)
    # Minus the target's entry. Not by gather: its gradient adds scattered numbers, for which a GPU
    # sorts them, to have a fixed order, and makes the host wait. Here each row has one number.
    nats = F.nll_loss(
        log_probabilities.reshape(-1, logits.shape[-1]),
        targets.where(counted, 0).reshape(-1),
        reduction="none",
    )
    return torch.where(counted, nats.view(targets.shape), 0.0)


def count_tokens(targets: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return how many targets count, a 0-d int64 tensor.

    Example:
      >>> count_tokens(torch.tensor([5, -100, 7]))
      tensor(2)
    """
    return (targets != ignore_index).sum()


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int = IGNORE,
    *,
    chunk_tokens: int = 1_024,
) -> Tensor:
    """Return ``cross_entropy(hidden @ weight.T, targets)``, holding few of the logits at a time.

    Equal to the plain version in value and gradient, up to rounding. It works because the gradient
    of the logits, softmax minus one-hot, is known as soon as they are: each chunk of tokens makes
    its logits, adds up its loss and both gradients, and is forgotten. Memory for logits is
    ``chunk_tokens * V`` floats instead of three or more times ``N * V``.

    Differentiable once, by ``torch.func`` and by autograd, in ``hidden`` and ``weight``. The
    gradients are computed with the value: to score without training, use the plain version in
    slices.

    Args:
      hidden: what the head reads, ``[..., D]``; its dtype is that of the matrix products.
      weight: the head, ``[V, D]``, in any floating dtype; its gradient is added up in float32 (or
        in float64).
      targets: ``[...]``, as in ``cross_entropy``.
      ignore_index: the target that is not scored.
      chunk_tokens: tokens whose logits exist at once, at least 1.

    Returns:
      A 0-d tensor, as from ``cross_entropy``.

    Raises:
      ValueError: shapes that do not fit, or ``chunk_tokens`` below 1.

    Example:
      >>> hidden, head = torch.zeros(3, 2), torch.ones(8, 2)
      >>> chunked_cross_entropy(hidden, head, torch.tensor([0, 1, 2]), chunk_tokens=2)
      tensor(2.0794)

    References:
      Hsu et al., 2024, Liger Kernel (the fused linear cross-entropy); Wijmans et al.,
      2024, Cut your losses in large-vocabulary language models.
    """
    nats = chunked_nats(hidden, weight, targets, ignore_index, chunk_tokens=chunk_tokens)
    return nats / count_tokens(targets, ignore_index).clamp(min=1)


def chunked_nats(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int = IGNORE,
    *,
    chunk_tokens: int = 1_024,
) -> Tensor:
    """Return the sum whose mean is ``chunked_cross_entropy``; arguments and errors are the same.

    Example:
      >>> chunked_nats(torch.zeros(3, 2), torch.ones(8, 2), torch.tensor([0, 1, -100]))
      tensor(4.1589)
    """
    if hidden.shape[:-1] != targets.shape or hidden.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"hidden {list(hidden.shape)}, weight {list(weight.shape)} and targets "
            f"{list(targets.shape)} do not fit: they are [..., D], [V, D] and [...]"
        )
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens is {chunk_tokens}: it must be at least 1")
    flat = hidden.reshape(-1, hidden.shape[-1])
    return _ChunkedNats.apply(flat, weight, targets.reshape(-1), ignore_index, chunk_tokens)[0]


class _ChunkedNats(torch.autograd.Function):
    """Sum of nats over tokens; both gradients are outputs, because torch.func saves only those.

    They stay those of the sum, not of the mean: entries between -1 and 1, which float16 can hold.
    """

    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, chunk_tokens: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = _loss_dtype(hidden)
        head = weight.to(hidden.dtype)
        counted = (targets != ignore_index).unsqueeze(-1)
        column = targets.unsqueeze(-1).where(counted, 0)
        # A row that is not scored reads zeros: then it adds nothing to the head's gradient, even
        # where it was NaN, and no mask has to pass over the logits.
        read = hidden.masked_fill(~counted, 0.0)
        nats = torch.zeros((), dtype=dtype, device=hidden.device)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros(weight.shape, dtype=dtype, device=weight.device)
        for start in range(0, len(targets), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            chosen, d_logits = _nats_and_gradient(read[rows], head, column[rows], dtype)
            nats += chosen.where(counted[rows], 0.0).sum()
            torch.mm(d_logits, head, out=d_hidden[rows])
            if d_logits.dtype == dtype:
                d_weight.addmm_(d_logits.T, read[rows])
            else:
                d_weight += d_logits.T @ read[rows]
        d_hidden.masked_fill_(~counted, 0.0)
        return nats, d_hidden, d_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, d_hidden, d_weight = output
        ctx.mark_non_differentiable(d_hidden, d_weight)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = inputs[1].dtype

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        scale = upstream[0]
        # Scaled in the loss's dtype: the scale of a float16 run does not fit into float16.
        scaled_hidden = (d_hidden.to(scale.dtype) * scale).to(d_hidden.dtype)
        # In place, where nobody differentiates this: a second backward pass is then an error of
        # autograd's, which sees that what it saved was written to.
        scaled_weight = d_weight * scale if torch.is_grad_enabled() else d_weight.mul_(scale)
        return scaled_hidden, scaled_weight.to(ctx.weight_dtype), None, None, None


_ROUNDED = 1e-30  # near the least normal number of float32; nats of 69 and more
_WIDENED = 1 << 20  # logits of half precision that are float32 at once: 4 MiB


def _nats_and_gradient(
    hidden: Tensor, head: Tensor, column: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Nats of these rows, ``[n, 1]``, and the gradient of their sum: softmax minus one-hot.

    On a CPU in few passes, and in the memory of the logits: the softmax is written over them, and
    the nats are -log of the target's entry, unless that is so small that it was rounded.
    """
    logits = hidden @ head.T
    if may_branch(logits):
        chosen = _softmax_in_place(logits, column, dtype)
        nats, rounded = -chosen.log(), (chosen < _ROUNDED).squeeze(-1)
        if bool(rounded.any()):
            nats[rounded] = _nats((hidden[rounded] @ head.T).to(dtype), column[rounded])
        logits.view(-1)[_flat(column, logits)] = torch.expm1(-nats).to(logits.dtype).squeeze(-1)
        return nats, logits
    wide = logits.to(dtype)
    gradient = torch.softmax(wide, dim=-1)
    # By flat places: in two dimensions a GPU's deterministic kernel makes the host wait.
    minus_one = gradient.new_full((len(column),), -1.0)
    gradient.view(-1).scatter_add_(0, _flat(column, gradient), minus_one)
    return _nats(wide, column), gradient.to(logits.dtype)


def _flat(column: Tensor, table: Tensor) -> Tensor:
    """The places of one entry of each row in ``table``, laid out in one dimension."""
    rows = torch.arange(len(column), device=column.device) * table.shape[-1]
    return rows + column.squeeze(-1)


def _nats(logits: Tensor, column: Tensor) -> Tensor:
    """Nats of each row by definition, ``[n, 1]``."""
    return torch.logsumexp(logits, dim=-1, keepdim=True) - logits.gather(-1, column)


def _softmax_in_place(logits: Tensor, column: Tensor, dtype: torch.dtype) -> Tensor:
    """Write the softmax, computed in ``dtype``, over the logits; the targets' entries, ``[n, 1]``.

    Half precision is widened a few rows at a time, which stay in the cache.
    """
    if logits.dtype == dtype:
        return torch.softmax(logits, dim=-1, out=logits).gather(-1, column)
    n_rows = max(1, _WIDENED // logits.shape[-1])
    wide = torch.empty(n_rows, logits.shape[-1], dtype=dtype)
    chosen = []
    for part, places in zip(logits.split(n_rows), column.split(n_rows), strict=True):
        rows = wide[: len(part)].copy_(part)
        torch.softmax(rows, dim=-1, out=rows)
        chosen.append(rows.gather(-1, places))
        part.copy_(rows)
    return torch.cat(chosen)


def _loss_dtype(x: Tensor) -> torch.dtype:
    """Losses are float32 at least."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
