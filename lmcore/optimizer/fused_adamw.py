"""`adamw_step` by PyTorch's fused kernel, in place: the lean twin of the update.

One pass over a parameter, its gradient and its moments, where the equation written out passes over
them nine times. The kernel contracts products and sums, so the last bits differ; the tests bound by
how much. For the CPU, where it costs nothing to read the learning rate.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lmcore.optimizer.adamw import AdamWState, check_adamw


def fused_adamw_step(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: AdamWState,
    lr: float | Tensor | Mapping[str, float | Tensor] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float | Mapping[str, float] = 0.01,
    *,
    apply: Tensor | None = None,
    in_place: bool = True,
) -> tuple[dict[str, Tensor], AdamWState]:
    """Make one step of AdamW in the tensors given; arguments and errors are `adamw_step`'s.

    Args:
      params: by name; written into.
      grads: by the same names.
      state: written into, but for its ``step``.
      lr: at least 0, one for all, or by name.
      betas: each in [0, 1).
      eps: at least 0.
      weight_decay: one for all, or by name.
      apply: a 0-d bool tensor. Where it is False nothing changes; the device is not waited for.
      in_place: always True; named as in ``adamw_step``, whose place this takes.

    Returns:
      The same tensors, and the state with its step counted.

    Raises:
      InputError: a hyperparameter outside its range.
      ValueError: the names do not agree, or ``in_place`` is False.

    Example:
      >>> from lmcore.optimizer.adamw import adamw_init
      >>> params, grads = {"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}
      >>> params, state = fused_adamw_step(params, grads, adamw_init(params), 0.1, weight_decay=0.0)
      >>> params["w"], state.step
      (tensor([0.9000]), tensor(1))

    References:
      Loshchilov and Hutter, 2019, Decoupled weight decay regularization, algorithm 2.
    """
    if not in_place:
        raise ValueError("in_place is False: the fused kernel writes into what it is given")
    check_adamw(params, grads, lr, betas, eps, weight_decay)
    t = (state.step + 1).to(torch.float32)
    refused = None if apply is None else (~apply).to(torch.float32)
    for rate, decay, names in groups(params, lr, weight_decay):
        torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
            [params[name] for name in names],
            [grads[name] for name in names],
            [state.exp_avg[name] for name in names],
            [state.exp_avg_sq[name] for name in names],
            [],
            [t] * len(names),
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
            found_inf=refused,
        )
    step = state.step + (1 if apply is None else apply.to(torch.int64))
    return dict(params), AdamWState(step, state.exp_avg, state.exp_avg_sq)


def groups(
    params: Mapping[str, Tensor],
    lr: float | Tensor | Mapping[str, float | Tensor],
    weight_decay: float | Mapping[str, float],
) -> list[tuple[float, float, list[str]]]:
    """Learning rate, decay, and the names that share both: one call of the kernel for each.

    Example:
      >>> groups({"w": torch.ones(1), "g": torch.ones(1)}, 0.5, {"w": 0.1})
      [(0.5, 0.1, ['w']), (0.5, 0.0, ['g'])]
    """
    found: dict[tuple[float, float], list[str]] = {}
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(params, float(lr))
    for name in params:
        rate = float(rates[name])
        decay = weight_decay.get(name, 0.0) if isinstance(weight_decay, Mapping) else weight_decay
        found.setdefault((rate, decay), []).append(name)
    return [(*shared, names) for shared, names in found.items()]
