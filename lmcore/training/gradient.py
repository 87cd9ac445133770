"""The loss of one batch and its gradients: micro-batches, loss scaling, ranks.

Shapes: B batch · S sequence · V vocab_size.
"""

from collections.abc import Callable, Iterator
from functools import reduce as fold
from typing import Any, Protocol

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.model.block import Block, transformer_block
from lmcore.model.config import ModelConfig
from lmcore.model.positions import RotaryTables, model_rotary_tables
from lmcore.model.transformer import forward, hidden_states, output_matrix
from lmcore.params import Params, map_params, zip_params
from lmcore.training.config import Precision
from lmcore.training.loss import chunked_nats, count_tokens, token_nats

Batch = tuple[Tensor, Tensor]
"""Input ids and target ids, each ``[B, S]`` int64; the target of a padded position is -100."""

Rows = tuple[Tensor, ...]
"""A batch or a part of it, and with dropout its factors: tensors of equal first size."""

Reduce = Callable[[Params], Params]
"""From a flat dict of this rank's tensors to the dict of their sums over all ranks."""

Differentiate = Callable[..., Callable[[Params, Rows], tuple[Params, tuple[Tensor, Tensor]]]]
"""From a function with something beside its value to one that gives gradients and both."""


class LossAndGradients(Protocol):
    """What ``train_step`` needs from a way to differentiate the loss: the seam for a faster twin.

    Takes what ``loss_and_gradients`` below takes, and returns what it returns.
    """

    def __call__(
        self,
        params: Params,
        batch: Batch,
        *,
        model: ModelConfig,
        precision: Precision,
        loss_scale: Tensor,
        n_micro_batches: int,
        loss_chunk_tokens: int,
        reduce: Reduce | None,
        rotary: RotaryTables | None,
        dropout: Tensor | None,
    ) -> tuple[Tensor, Params]: ...


def loss_and_gradients(
    params: Params,
    batch: Batch,
    *,
    model: ModelConfig,
    precision: Precision,
    loss_scale: Tensor,
    n_micro_batches: int = 1,
    loss_chunk_tokens: int = 0,
    reduce: Reduce | None = None,
    rotary: RotaryTables | None = None,
    dropout: Tensor | None = None,
    block: Block = transformer_block,
    differentiate: Differentiate = torch.func.grad_and_value,
) -> tuple[Tensor, Params]:
    r"""Return the mean loss over all tokens of the batch, and its gradient.

    .. math:: L = \frac{1}{N} \sum_{r} \sum_{k} \sum_{n \in (r, k)} \ell_n, \qquad
       \nabla L = \frac{1}{\sigma} \sum_{r} \sum_{k}
         \nabla \frac{\sigma}{N} \sum_{n \in (r, k)} \ell_n

    over ranks r and micro-batches k. Each part is divided by N, the tokens of all of them, and not
    by its own count: so a token weighs the same wherever it lies, and the result does not depend on
    the split beyond rounding. :math:`\sigma`, the loss scale, lifts small gradients into the range
    of float16 on their way back.

    Args:
      params: by name, float32 (or float64); gradients have their shapes and dtypes.
      batch: input and target ids, ``[B, S]`` each; of this rank, where there are several.
      model: the configuration of the model.
      precision: dtype of the matrix products; not "auto".
      loss_scale: :math:`\sigma`, 0-d float32; used in float16 only.
      n_micro_batches: parts that the batch is cut into along B, one after the other in memory, as
        equal as B allows.
      loss_chunk_tokens: tokens whose logits exist at once, see ``chunked_cross_entropy``; 0 makes
        all logits of a micro-batch (the readable form, and the one to compile).
      reduce: sums a dict over the ranks; None where there is one. Called twice a step, first with
        the token count, then with loss and gradients.
      rotary: ``model_rotary_tables(model)`` on the parameters' device; made anew where not given.
        Compiled, they must be given: they cannot be made under a transform.
      dropout: ``dropout_factors`` of the batch, ``[B, P, D]``; None drops nothing.
      block: ``transformer_block``, or a compiled one.
      differentiate: what takes the gradient of a function of the parameters; its lean twin is
        ``lean_gradient.grad_and_value``.

    Returns:
      The mean loss (0-d, not scaled) and the gradients by name (not scaled).

    Raises:
      InputError: precision "auto" or unknown, or more micro-batches than sequences.

    Example:
      >>> from lmcore.model.init import init_params
      >>> model = ModelConfig(vocab_size=8, context_length=4, d_model=8, n_layers=1, n_heads=2)
      >>> ids = torch.zeros(2, 4, dtype=torch.int64)
      >>> loss, grads = loss_and_gradients(init_params(model, seed=0), (ids, ids), model=model,
      ...     precision="float32", loss_scale=torch.tensor(1.0))
      >>> loss.shape, grads["lm_head.weight"].shape
      (torch.Size([]), torch.Size([8, 8]))

    References:
      Micikevicius et al., 2018, Mixed precision training, section 3.2 (the loss scale).
    """
    tokens = {"tokens": count_tokens(batch[1])}
    n_tokens = (reduce(tokens) if reduce else tokens)["tokens"].clamp(min=1)
    scale = loss_scale if precision == "float16" else None
    options = {
        "compute_dtype": compute_dtype(precision),
        "rotary": rotary or model_rotary_tables(model, device=batch[0].device),
        "block": block,
    }

    def scaled_loss(params: Params, part: Rows) -> tuple[Tensor, Tensor]:
        loss = _sum_of_nats(params, part, model, loss_chunk_tokens, options) / n_tokens
        return (loss if scale is None else loss * scale), loss.detach()

    gradient = differentiate(scaled_loss, has_aux=True)
    rows: Rows = batch if dropout is None else (*batch, dropout)
    parts = (gradient(params, part) for part in micro_batches(rows, n_micro_batches))
    grads, loss = fold(_add, ((grads, loss) for grads, (_, loss) in parts))
    if reduce is not None:
        total = reduce({_LOSS: loss, **grads})
        loss, grads = total.pop(_LOSS), total
    return loss, grads if scale is None else map_params(lambda grad: grad / scale, grads)


_LOSS = "/loss"  # no parameter has a slash in its name


def compute_dtype(precision: Precision) -> torch.dtype | None:
    """Return the dtype that matrix products are cast to; None leaves them in the parameters'.

    Raises:
      InputError: "auto", which only someone who knows the device can resolve, or an unknown name.

    Example:
      >>> compute_dtype("bfloat16")
      torch.bfloat16
    """
    table = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in table:
        raise InputError(
            f"precision is {precision!r}: a training step needs one of {', '.join(table)}; "
            "resolve it for the device first, or set --training.precision"
        )
    return table[precision]


def micro_batches(batch: Rows, n: int) -> Iterator[Rows]:
    """Yield the batch in ``n`` parts along its first axis, their sizes at most one apart.

    Args:
      batch: tensors of equal first size B.
      n: from 1 to B.

    Yields:
      Views of the batch's tensors, in order.

    Raises:
      InputError: n outside 1 to B.

    Example:
      >>> ids = torch.arange(3)[:, None]
      >>> [inputs.tolist() for inputs, _ in micro_batches((ids, ids), 2)]
      [[[0], [1]], [[2]]]
    """
    size = len(batch[0])
    if not 1 <= n <= size:
        raise InputError(
            f"{n} micro-batches cannot be made of {size} sequences: choose from 1 to {size}, "
            "or raise --training.batch-size"
        )
    yield from zip(*(torch.tensor_split(tensor, n) for tensor in batch), strict=True)


def _sum_of_nats(
    params: Params, part: Rows, model: ModelConfig, chunk: int, options: dict[str, Any]
) -> Tensor:
    """Sum the loss over the tokens of one micro-batch."""
    inputs, targets, *dropout = part
    options = {**options, "dropout": dropout[0]} if dropout else options
    if not chunk:
        return token_nats(forward(params, model, inputs, **options), targets).sum()
    hidden = hidden_states(params, model, inputs, **options)
    hidden = hidden.to(options["compute_dtype"] or hidden.dtype)
    return chunked_nats(hidden, output_matrix(params), targets, chunk_tokens=chunk)


def _add(left: tuple[Params, Tensor], right: tuple[Params, Tensor]) -> tuple[Params, Tensor]:
    """Add the gradients and the losses of two parts."""
    return zip_params(torch.add, left[0], right[0]), left[1] + right[1]
