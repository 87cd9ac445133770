"""Muon by hand: momentum for matrices, made orthogonal before it moves them.

Legend: M rows · N columns.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.optimizer.branch import may_branch

# The quintic a x + b x³ + c x⁵. Its slope of 3.44 at zero lifts a small singular value quickly; it
# does not settle at one, but keeps what it has lifted between 0.68 and 1.21, which serves as well.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
N_ITERATIONS = 5
_RMS = 0.2  # root mean square of an update's entries at a learning rate of one, as AdamW's
_MOST_NUMBERS = 1 << 22  # of the matrices that are made orthogonal together
_LEAST_NORM = 1e-20  # of what is divided by; float32 cannot square entries below 1e-22 anyway


class MuonState(NamedTuple):
    """What Muon remembers between steps: half of what AdamW does.

    Attributes:
      momentum: b, the running mean of the gradients, by parameter name.
    """

    momentum: dict[str, Tensor]


def muon_init(params: Mapping[str, Tensor]) -> MuonState:
    """Return the state before the first step: no momentum.

    Args:
      params: matrices by name; the momentum takes their shapes, dtypes and devices.

    Returns:
      A state that shares no memory with ``params``.

    Example:
      >>> muon_init({"w": torch.ones(1, 2)}).momentum
      {'w': tensor([[0., 0.]])}

    References:
      Jordan et al., 2024, Muon: An optimizer for hidden layers in neural networks, algorithm 2.
    """
    return MuonState({name: torch.zeros_like(param) for name, param in params.items()})


def muon_step(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: MuonState,
    lr: float | Tensor = 0.01,
    momentum: float = 0.95,
    weight_decay: float = 0.01,
    *,
    compute_dtype: torch.dtype | None = None,
    apply: Tensor | None = None,
    in_place: bool = False,
) -> tuple[dict[str, Tensor], MuonState]:
    r"""Make one step of Muon, with Nesterov's momentum and decoupled weight decay.

    .. math::
       b &\leftarrow \mu b + (1 - \mu)\, g \\
       O &= \mathrm{orthogonal}(\mu b + (1 - \mu)\, g) \\
       \theta &\leftarrow (1 - \alpha \lambda)\, \theta
         - \alpha \cdot 0.2 \sqrt{\max(M, N)}\; O

    A gradient of a matrix has a few large singular values and many small ones; O, of
    ``orthogonalise``, has all of them near one, so that rare directions are learnt as fast as
    common ones.

    An orthogonal O of :math:`M \times N` has entries of root mean square
    :math:`1 / \sqrt{\max(M, N)}`. The factor makes that 0.2 for every shape, which is about what
    AdamW's updates have. So learning rate and decay mean here what they mean there, and one rate
    serves matrices of all shapes. (The other usual factor, :math:`\sqrt{\max(1, M / N)}`, keeps the
    update's effect on a vector the same instead; its rates are those of here times
    :math:`0.2 \sqrt{N}`, for a square matrix.)

    Args:
      params: :math:`\theta` by name, ``[M, N]`` each, floating dtypes.
      grads: g by the same names, of the same shapes.
      state: from ``muon_init`` or the step before.
      lr: :math:`\alpha`, at least 0; a 0-d tensor does not make a compiled step compile again.
      momentum: :math:`\mu`, in [0, 1).
      weight_decay: :math:`\lambda`, at least 0.
      compute_dtype: of the matrix products, as in ``orthogonalise``.
      apply: a 0-d bool tensor. Where it is False every value returned is that which came in, bit
        for bit, even where a gradient is NaN. None applies.
      in_place: write into the tensors of ``params`` and ``state`` and return those. The caller
        gives both up. Equal to the last bit; parameters and momentum are held once, not twice.

    Returns:
      New parameters and new state, in new tensors unless ``in_place``.

    Raises:
      InputError: a hyperparameter outside its range.
      ValueError: ``params`` and ``grads`` differ in their names, or a parameter is no matrix.

    Example:
      >>> params, grads = {"w": torch.zeros(2, 2)}, {"w": 7 * torch.eye(2)}
      >>> params, _ = muon_step(params, grads, muon_init(params), lr=1.0)
      >>> params["w"].round(decimals=1)
      tensor([[-0.3000,  0.0000],
              [ 0.0000, -0.3000]])

    References:
      Jordan et al., 2024, Muon: An optimizer for hidden layers in neural networks, algorithm 2;
      Liu et al., 2025, Muon is scalable for LLM training, eq. 4 (the decay and the factor).
    """
    _check(params, grads, lr, momentum, weight_decay)
    if in_place and may_branch(apply):
        if not apply:
            return dict(params), state
        apply = None
    write = in_place and apply is None
    moved: dict[str, _Pair] = {}
    for names in _stacks(params):
        # b ← μ b + (1 − μ) g
        old = {name: state.momentum[name] for name in names}
        velocities = {
            name: torch.lerp(b, grads[name], 1 - momentum, out=b if write else None)
            for name, b in old.items()
        }
        # O = orthogonal(μ b + (1 − μ) g)
        directions = _orthogonalise_all(
            {name: torch.lerp(grads[name], velocities[name], momentum) for name in names},
            compute_dtype,
        )
        for name in names:
            param = params[name]
            # α · 0.2 √max(M, N) · O; a 0-d float64 α does not promote a matrix
            change = directions[name].to(param.dtype) * (lr * (_RMS * max(param.shape) ** 0.5))
            # θ ← (1 − α λ) θ − change
            theta = torch.mul(param, 1 - lr * weight_decay, out=param if write else None)
            new = theta.sub_(change), velocities[name]
            if apply is not None:
                new = _select(apply, new, (param, old[name]), in_place=in_place)
            moved[name] = new
    new_params = {name: moved[name][0] for name in params}
    return new_params, MuonState({name: moved[name][1] for name in params})


def _stacks(params: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of matrices that are equal but for which side is longer, a few megabytes at a time.

    Fifteen products for each matrix of a small model are too short for two threads to share: on a
    CPU, Muon added 45 ms to a step of three layers of 128, and with stacks it adds 14. Of large
    matrices more than a few at once would only take memory.
    """
    found: dict[tuple[int, ...], list[list[str]]] = {}
    for name, param in params.items():
        stacks = found.setdefault((min(param.shape), max(param.shape)), [[]])
        if stacks[-1] and (len(stacks[-1]) + 1) * param.numel() > _MOST_NUMBERS:
            stacks.append([])
        stacks[-1].append(name)
    return [names for stacks in found.values() for names in stacks]


def _orthogonalise_all(
    matrices: Mapping[str, Tensor], compute_dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Make the matrices of a stack orthogonal together, those that stand upright laid down."""
    upright = {name: m.shape[0] > m.shape[1] for name, m in matrices.items()}
    stack = torch.stack([m.mT if upright[name] else m for name, m in matrices.items()])
    found = zip(upright, orthogonalise(stack, compute_dtype), strict=True)
    return {name: done.mT if upright[name] else done for name, done in found}


def orthogonalise(matrix: Tensor, compute_dtype: torch.dtype | None = None) -> Tensor:
    r"""Bring all singular values of a matrix near one and keep its singular vectors.

    .. math::
       X_0 = G / \lVert G \rVert_F, \qquad
       X_{k+1} = a X_k + (b A_k + c A_k^2) X_k, \quad A_k = X_k X_k^\top

    With :math:`G = U S V^\top`, five iterations give :math:`U\, p(S / \lVert S \rVert)\, V^\top`,
    where p is the quintic :math:`a x + b x^3 + c x^5` applied five times. It maps [0.0015, 1] into
    [0.68, 1.21]; a singular value below 0.0015 of the norm is lifted up to 485 times, and zero
    stays zero. Only matrix products are needed, no decomposition and no branch.

    Args:
      matrix: G, ``[M, N]``, or several of one shape, ``[n, M, N]``; any floating dtype.
      compute_dtype: of the products: bfloat16 is enough for training. None takes the dtype of
        ``matrix``, float32 at least. The norm is taken in float32 at least.

    Returns:
      The shape of ``matrix``, in the dtype of the products.

    Example:
      >>> orthogonalise(torch.tensor([[0.0, 0.3], [0.3, 0.0]])).abs().amax() < 1.21
      tensor(True)

    References:
      Jordan et al., 2024, Muon, algorithm 1 and its coefficients; Bernstein and Newhouse, 2024, Old
      optimizer, new norm, appendix A (the iteration).
    """
    a, b, c = COEFFICIENTS
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    norm = torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=_LEAST_NORM)
    x = wide / norm
    x = x if compute_dtype is None else x.to(compute_dtype)
    x = x.reshape(-1, *x.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the product with itself is the smaller of the two possible
    for _ in range(N_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrix.shape)


_Pair = tuple[Tensor, Tensor]


def _select(apply: Tensor, new: _Pair, old: _Pair, *, in_place: bool) -> _Pair:
    """Take ``new`` where ``apply`` holds, else ``old``, written into ``old`` when in place."""
    theta, velocity = (
        torch.where(apply, fresh, stale, out=stale)
        if in_place
        else torch.where(apply, fresh, stale)
        for fresh, stale in zip(new, old, strict=True)
    )
    return theta, velocity


def _check(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    lr: float | Tensor,
    momentum: float,
    weight_decay: float,
) -> None:
    """Refuse what the equation is not defined for."""
    if params.keys() != grads.keys():
        names = sorted(params.keys() ^ grads.keys())
        raise ValueError(f"parameters and gradients differ in their names: {', '.join(names)}")
    others = [name for name, param in params.items() if param.ndim != 2]
    if others:
        raise ValueError(f"Muon moves matrices, and these are none: {', '.join(others)}")
    if not isinstance(lr, Tensor) and not lr >= 0:
        raise InputError(f"lr is {lr}: it must be at least 0")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum is {momentum}: it must be at least 0 and below 1")
    if not weight_decay >= 0:
        raise InputError(f"weight_decay is {weight_decay}: it must be at least 0")
