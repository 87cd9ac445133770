"""Which rule moves which parameter: today AdamW moves all, and matrices decay."""

from collections.abc import Mapping

from torch import Tensor


def decay_by_name(params: Mapping[str, Tensor], weight_decay: float) -> dict[str, float]:
    """Return the weight decay of each parameter: ``weight_decay`` for matrices, 0 for the rest.

    A matrix is whatever has two axes or more: the projections, the feed-forward weights, the head,
    and the token embeddings, which are a matrix too (a row is a token) and decay with the others,
    as in GPT-2 and its successors. A row whose token does not occur in the batch is then pulled
    towards zero by that step and pushed by none, slowly: by lr times the decay, 0.0001 of itself at
    1e-3 and 0.1. Gains of norms do not decay: zero is not where they should rest.

    Args:
      params: parameters by name.
      weight_decay: for the matrices, at least 0.

    Returns:
      A mapping for ``adamw_step(..., weight_decay=...)``, with every name of ``params``.

    Example:
      >>> import torch
      >>> decay_by_name({"w": torch.ones(2, 2), "gain": torch.ones(2)}, 0.1)
      {'w': 0.1, 'gain': 0.0}

    References:
      Loshchilov and Hutter, 2019, Decoupled weight decay regularization; Brown et al., 2020,
      GPT-3, appendix B (the decay of 0.1).
    """
    return {name: weight_decay if param.ndim >= 2 else 0.0 for name, param in params.items()}
