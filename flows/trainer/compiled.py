"""A compiled training step, compared with the eager one before it is trusted.

torch.compile over torch.func has given silently wrong gradients in released versions, so one
step's loss and parameters are compared first, and a difference is refused.
"""

import warnings
from collections.abc import Callable

import torch

from lmcore.errors import InputError
from lmcore.params import Params, map_params
from lmcore.training.gradient import Batch
from lmcore.training.step import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict]]
# Compiled kernels reorder sums; after one step of AdamW a parameter whose gradient is all rounding
# may move either way by the learning rate, so gradients are compared, through the clipped norm,
# and the loss. bfloat16 has 8 bits of mantissa.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 1e-2}


def compile_step(step: Step, precision: str) -> Step:
    """The step compiled; its first call compares it with the eager one."""
    compiled = torch.compile(step, fullgraph=False, dynamic=False)
    checked: list[bool] = []

    def call(state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        if checked:
            return compiled(state, batch)
        _, eager = step(copied(state), batch)
        with warnings.catch_warnings():
            # It advises TF32, whose products would be rounded to 11 bits: off on purpose.
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            after, metrics = compiled(state, batch)
        refuse_difference(eager, metrics, TOLERANCE[precision])
        checked.append(True)
        return after, metrics

    return call


def copied(state: TrainState) -> TrainState:
    """The state with tensors of its own, for a step that may write into them."""
    from lmcore.params import flatten, unflatten

    return unflatten(state, map_params(torch.clone, flatten(state)))


def refuse_difference(eager: Params, compiled: Params, tolerance: float) -> None:
    """Raise unless loss and gradient norm agree."""
    for name in ("loss", "grad_norm"):
        expected, found = float(eager[name]), float(compiled[name])
        if not abs(found - expected) <= tolerance * max(1.0, abs(expected)):
            raise InputError(
                f"the compiled step's {name} is {found:.6g} where the eager one's is "
                f"{expected:.6g}: this torch compiles it wrongly; pass --numerics.compile off"
            )
