"""AdamW by hand: an init and an update on flat dictionaries of tensors."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.optimizer.branch import may_branch
from lmcore.optimizer.schedule import scalar_dtype


class AdamWState(NamedTuple):
    """What AdamW remembers between steps.

    Attributes:
      step: number of updates made, a 0-d int64 tensor on the parameters' device. A tensor, so that
        a compiled step is not compiled again when it grows.
      exp_avg: m, the running mean of the gradients, by parameter name.
      exp_avg_sq: v, the running mean of their squares, by parameter name.
    """

    step: Tensor
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]


def adamw_init(params: Mapping[str, Tensor]) -> AdamWState:
    """Return the state before the first step: step 0 and zero moments.

    Args:
      params: parameters by name; the moments take their shapes, dtypes and devices.

    Returns:
      A state that shares no memory with ``params``.

    Example:
      >>> adamw_init({"w": torch.ones(2)}).exp_avg
      {'w': tensor([0., 0.])}

    References:
      Kingma and Ba, 2015, Adam, algorithm 1, the initial values.
    """
    device = next(iter(params.values())).device if params else torch.device("cpu")
    return AdamWState(
        step=torch.zeros((), dtype=torch.int64, device=device),
        exp_avg={name: torch.zeros_like(param) for name, param in params.items()},
        exp_avg_sq={name: torch.zeros_like(param) for name, param in params.items()},
    )


def adamw_step(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: AdamWState,
    lr: float | Tensor | Mapping[str, float | Tensor] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float | Mapping[str, float] = 0.01,
    *,
    apply: Tensor | None = None,
    in_place: bool = False,
) -> tuple[dict[str, Tensor], AdamWState]:
    r"""Make one step of Adam with decoupled weight decay.

    .. math::
       t &\leftarrow t + 1 \\
       m &\leftarrow \beta_1 m + (1 - \beta_1)\, g \\
       v &\leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\
       \theta &\leftarrow (1 - \alpha \lambda)\, \theta
         - \frac{\alpha}{1 - \beta_1^t} \cdot
           \frac{m}{\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon}

    The decay is scaled by the learning rate, and acts on the parameters before the step, as in
    ``torch.optim.AdamW``, whose results these are up to rounding.

    Args:
      params: :math:`\theta` by name, any shapes, floating dtypes.
      grads: g by the same names, of the same shapes.
      state: from ``adamw_init`` or the step before.
      lr: :math:`\alpha`, at least 0: one for all, or by name, with every name. A 0-d tensor does
        not make a compiled step compile again.
      betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
      eps: :math:`\epsilon`, at least 0.
      weight_decay: :math:`\lambda`, at least 0: one for all, or by name, where a name left out
        does not decay. ``decay_by_name`` makes the usual mapping: matrices only.
      apply: a 0-d bool tensor. Where it is False every value returned is that which came in, bit
        for bit, even where a gradient is NaN: a bad step is refused without a branch, and without
        waiting for the device. None applies.
      in_place: write into the tensors of ``params`` and ``state`` and return those. The caller
        gives both up. Equal to the last bit; the parameters and moments are held once, not twice.

    Returns:
      New parameters and new state, in new tensors unless ``in_place``.

    Raises:
      InputError: a hyperparameter outside its range.
      ValueError: ``params``, ``grads`` and ``weight_decay`` do not agree on the names.

    Example:
      >>> params, grads = {"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}
      >>> params, state = adamw_step(params, grads, adamw_init(params), lr=0.1, weight_decay=0.0)
      >>> params["w"], state.step
      (tensor([0.9000]), tensor(1))

    References:
      Loshchilov and Hutter, 2019, Decoupled weight decay regularization, algorithm 2; Kingma and
      Ba, 2015, Adam, section 2 (the order of the bias corrections).
    """
    check_adamw(params, grads, lr, betas, eps, weight_decay)
    if in_place and may_branch(apply):
        if not apply:
            return dict(params), state
        apply = None
    step = state.step + (1 if apply is None else apply.to(torch.int64))
    t = (state.step + 1).to(scalar_dtype(state.step.device))
    correction = _one_minus_power(betas[0], t), _one_minus_power(betas[1], t).sqrt()
    new_params, exp_avg, exp_avg_sq = {}, {}, {}
    for name, param in params.items():
        decay = weight_decay.get(name, 0.0) if isinstance(weight_decay, Mapping) else weight_decay
        rate = lr[name] if isinstance(lr, Mapping) else lr
        old = param, state.exp_avg[name], state.exp_avg_sq[name]
        out = old if in_place and apply is None else (None, None, None)
        new = _adamw_tensor(*old, grads[name], rate, betas, eps, decay, correction, out)
        if apply is not None:
            new = _select(apply, new, old, in_place=in_place)
        new_params[name], exp_avg[name], exp_avg_sq[name] = new
    return new_params, AdamWState(step, exp_avg, exp_avg_sq)


_Triple = tuple[Tensor, Tensor, Tensor]


def _adamw_tensor(
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    grad: Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    correction: tuple[Tensor, Tensor],
    out: _Triple | tuple[None, None, None],
) -> _Triple:
    """Update one tensor; ``out`` says where the results go (None: into new tensors).

    What ends in an underscore writes only into what these lines have just made, or into ``out``.
    Against the equation typed as it stands (eager, one CPU thread, 0.9M and 22M parameters) this
    takes 0.56 to 0.92 of the time into new tensors, whose fresh pages cost most, 0.30 to 0.36 in
    place; ``torch.optim.AdamW`` takes 0.47 to 0.50.
    """
    beta1, beta2 = betas
    # m ← β₁ m + (1 − β₁) g
    m = torch.lerp(exp_avg, grad, 1 - beta1, out=out[1])
    # v ← β₂ v + (1 − β₂) g²
    v = torch.mul(exp_avg_sq, beta2, out=out[2]).addcmul_(grad, grad, value=1 - beta2)
    # √v / √(1 − β₂ᵗ) + ε
    denominator = v.sqrt().div_(correction[1]).add_(eps)
    # α / (1 − β₁ᵗ) · m / denominator
    change = torch.div(m, denominator, out=denominator).mul_(lr / correction[0])
    # θ ← (1 − α λ) θ − change; a 0-d θ times a float64 α would be promoted
    theta = torch.mul(param, 1 - lr * decay, out=out[0]).to(param.dtype).sub_(change)
    return theta, m, v


def _one_minus_power(beta: float, t: Tensor) -> Tensor:
    """Return 1 − βᵗ as −expm1(t log β), which float32 can also hold (MPS has no float64)."""
    return -torch.expm1(t * (math.log(beta) if beta > 0 else -math.inf))


def _select(apply: Tensor, new: _Triple, old: _Triple, *, in_place: bool) -> _Triple:
    """Take ``new`` where ``apply`` holds, else ``old``, written into ``old`` when in place."""
    theta, m, v = (
        torch.where(apply, fresh, stale, out=stale)
        if in_place
        else torch.where(apply, fresh, stale)
        for fresh, stale in zip(new, old, strict=True)
    )
    return theta, m, v


def check_adamw(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    lr: float | Tensor | Mapping[str, float | Tensor],
    betas: tuple[float, float],
    eps: float,
    weight_decay: float | Mapping[str, float],
) -> None:
    """Raise unless the equation of `adamw_step` is defined for these arguments."""
    if params.keys() != grads.keys():
        names = sorted(params.keys() ^ grads.keys())
        raise ValueError(f"parameters and gradients differ in their names: {', '.join(names)}")
    decays = weight_decay if isinstance(weight_decay, Mapping) else {"": weight_decay}
    if isinstance(weight_decay, Mapping) and not decays.keys() <= params.keys():
        names = sorted(decays.keys() - params.keys())
        raise ValueError(f"weight_decay names what is not a parameter: {', '.join(names)}")
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(params, lr)
    if rates.keys() != params.keys():
        names = sorted(rates.keys() ^ params.keys())
        raise ValueError(f"lr and parameters differ in their names: {', '.join(names)}")
    if not all(isinstance(rate, Tensor) or rate >= 0 for rate in rates.values()):
        raise InputError(f"lr is {lr}: it must be at least 0")
    if not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"betas are {betas}: both must be at least 0 and below 1")
    if not eps >= 0:
        raise InputError(f"eps is {eps}: it must be at least 0")
    if not all(decay >= 0 for decay in decays.values()):
        raise InputError(f"weight_decay is {weight_decay}: it must be at least 0")
