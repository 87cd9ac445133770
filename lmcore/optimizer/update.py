"""Which rule moves which parameter: AdamW all, or Muon the hidden matrices; matrices decay."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lmcore.optimizer.adamw import AdamWState, adamw_init, adamw_step
from lmcore.optimizer.hidden_matrices import is_hidden_matrix
from lmcore.optimizer.muon import MuonState, muon_init, muon_step
from lmcore.params import Params


class MuonAndAdamWState(NamedTuple):
    """What two rules remember, each of its own parameters.

    Attributes:
      muon: of the hidden matrices.
      adamw: of embeddings, head, gains and biases.
    """

    muon: MuonState
    adamw: AdamWState


EMBEDDINGS = "token_embeddings.weight"
OptimizerState = AdamWState | MuonAndAdamWState


def optimizer_init(
    params: Mapping[str, Tensor], optimizer: Literal["adamw", "muon"]
) -> OptimizerState:
    """Return the optimizer's state before the first step.

    Args:
      params: parameters by name.
      optimizer: ``adamw`` moves all of them; ``muon`` moves the hidden matrices, and AdamW the
        rest.

    Returns:
      A state whose type says which of the two it is.

    Example:
      >>> params = {"layers.0.ffn.w1.weight": torch.ones(2, 2), "ln_final.weight": torch.ones(2)}
      >>> state = optimizer_init(params, "muon")
      >>> list(state.muon.momentum), list(state.adamw.exp_avg)
      (['layers.0.ffn.w1.weight'], ['ln_final.weight'])
    """
    if optimizer == "adamw":
        return adamw_init(params)
    hidden, rest = _split(params, params)
    return MuonAndAdamWState(muon_init(hidden), adamw_init(rest))


def optimizer_step(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    muon_lr: float | Tensor,
    muon_momentum: float,
    muon_dtype: torch.dtype | None = None,
    embedding_lr_ratio: float = 1.0,
    apply: Tensor | None = None,
    in_place: bool = False,
    adamw: Callable[..., tuple[Params, AdamWState]] = adamw_step,
) -> tuple[Params, OptimizerState]:
    """Move every parameter by its rule.

    Args:
      params: parameters by name.
      grads: gradients by the same names.
      state: from ``optimizer_init`` or the step before; its type says which rules there are.
      lr: AdamW's learning rate.
      betas: AdamW's.
      eps: AdamW's.
      weight_decay: of matrices, whichever rule moves them; times that rule's learning rate.
      muon_lr: Muon's learning rate.
      muon_momentum: Muon's.
      muon_dtype: of Muon's matrix products; None for that of the parameters.
      embedding_lr_ratio: learning rate of the token embeddings, as a multiple of ``lr``; their
        decay in a step stays what it would be at ``lr``.
      apply: a 0-d bool tensor; where it is False nothing changes. None applies.
      in_place: write into the tensors of ``params`` and ``state``, which the caller gives up.
      adamw: ``adamw_step``, or its lean twin ``fused_adamw_step``.

    Returns:
      New parameters, in the order of ``params``, and new state.

    Raises:
      InputError: a hyperparameter outside its range.
      ValueError: ``params`` and ``grads`` do not agree on the names.

    Example:
      >>> params, grads = {"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}
      >>> params, state = optimizer_step(params, grads, optimizer_init(params, "adamw"), lr=0.1,
      ...     betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, muon_lr=0.0, muon_momentum=0.0)
      >>> params["w"]
      tensor([0.9000])
    """
    both = {"apply": apply, "in_place": in_place}
    move = partial(
        _move_by_adamw,
        adamw=adamw,
        lr=lr,
        weight_decay=weight_decay,
        embedding_lr_ratio=embedding_lr_ratio,
        options={"betas": betas, "eps": eps, **both},
    )
    if isinstance(state, AdamWState):
        return move(params, grads, state)
    hidden, rest = _split(params, params)
    hidden_grads, rest_grads = _split(grads, params)
    hidden, muon_state = muon_step(
        hidden,
        hidden_grads,
        state.muon,
        muon_lr,
        muon_momentum,
        weight_decay,
        compute_dtype=muon_dtype,
        **both,
    )
    rest, adamw_state = move(rest, rest_grads, state.adamw)
    moved = {**hidden, **rest}
    return {name: moved[name] for name in params}, MuonAndAdamWState(muon_state, adamw_state)


def _move_by_adamw(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: AdamWState,
    *,
    adamw: Callable[..., tuple[Params, AdamWState]],
    lr: float | Tensor,
    weight_decay: float,
    embedding_lr_ratio: float,
    options: Mapping[str, Any],
) -> tuple[Params, AdamWState]:
    """Move parameters by AdamW: matrices decay, embeddings have a rate of their own."""
    decay = decay_by_name(params, weight_decay)
    if embedding_lr_ratio == 1 or EMBEDDINGS not in params:
        return adamw(params, grads, state, lr=lr, weight_decay=decay, **options)
    own = lr * embedding_lr_ratio
    rates = {name: own if name == EMBEDDINGS else lr for name in params}
    decay[EMBEDDINGS] = weight_decay / embedding_lr_ratio
    return adamw(params, grads, state, lr=rates, weight_decay=decay, **options)


def _split(values: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> tuple[Params, Params]:
    """Part what belongs to hidden matrices from what belongs to the other parameters."""
    hidden = {n for n, param in params.items() if is_hidden_matrix(n, param.ndim)}
    return (
        {name: value for name, value in values.items() if name in hidden},
        {name: value for name, value in values.items() if name not in hidden},
    )


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
