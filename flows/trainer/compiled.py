"""A compiled training step, compared with the eager one before it is trusted.

torch.compile over torch.func has given silently wrong gradients in released versions, so one
step's loss and parameters are compared first, and a difference is refused.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from flows.trainer.lifeline import passing_memory
from lmcore.errors import InputError
from lmcore.model.block import transformer_block
from lmcore.model.checkpointing import checkpointed
from lmcore.params import Params, map_params
from lmcore.training.gradient import Batch, LossAndGradients
from lmcore.training.step import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict]]
# Compiled kernels reorder sums; after one step of AdamW a parameter whose gradient is all rounding
# may move either way by the learning rate, so gradients are compared, through the clipped norm,
# and the loss. bfloat16 has 8 bits of mantissa.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 1e-2}
SAVED_SHARE = 0.8


def in_compiled_blocks(
    gradients: Callable[..., tuple[torch.Tensor, Params]], *, recompute: bool
) -> LossAndGradients:
    """Gradients by compiled blocks, which `compile_step` leaves as they are.

    Compiled as a whole, a step would unroll the chunks of its loss, and merge what a block computes
    again with what it computed before: both would be held after all. So a block is compiled alone,
    once for all layers, and what lies between blocks stays eager.

    Args:
      gradients: takes a ``block``, and differentiates by autograd.
      recompute: let a block keep its input alone.
    """
    block = torch.compile(transformer_block, dynamic=False)
    chosen = partial(gradients, block=checkpointed(block) if recompute else block)
    return torch.compiler.disable(chosen)  # type: ignore[return-value]


def compile_step(step: Step, precision: str, reference: Step | None = None) -> Step:
    """The step compiled; its first call compares it with ``reference``, by default itself eager."""
    compiled = torch.compile(step, fullgraph=False, dynamic=False)
    return compared(compiled, reference or step, precision)


def compared(compiled: Step, eager_step: Step, precision: str) -> Step:
    """The compiled step, whose first call is refused where it differs from the eager one."""
    checked: list[bool] = []

    def call(state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        if checked:
            return compiled(state, batch)
        with passing_memory():
            _, eager = eager_step(copied(state), batch)
            with saving_less(state), warnings.catch_warnings():
                # It advises TF32, whose products would be rounded to 11 bits: off on purpose.
                warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
                # Tracing a block, dynamo itself looks at .grad of the activation that goes in.
                warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is")
                after, metrics = compiled(state, batch)
        refuse_difference(eager, metrics, TOLERANCE[precision])
        checked.append(True)
        return after, metrics

    return call


def saving_less(state: TrainState) -> AbstractContextManager[None]:
    """Compile blocks that compute cheap values again instead of saving them for the backward pass.

    With 0.7 of what the compiler would save, a step of 10M parameters on a CPU took 315 MiB beyond
    its state, where it took 423, and no more time; with 0.5 it took 1.08 of the time. With gated
    layers (cs336, in bfloat16) 0.7 computes a matrix product again: 1.09 of the time of 0.8, which
    for the others is as good. On a GPU it was not tried.
    """
    from torch._functorch import config

    on_cpu = next(iter(state.params.values())).device.type == "cpu"
    return config.patch(activation_memory_budget=SAVED_SHARE) if on_cpu else nullcontext()


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
