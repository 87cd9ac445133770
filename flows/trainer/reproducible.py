"""What makes a run repeat bit for bit in torch, and the signal that asks it to stop."""

import signal
from types import FrameType

import torch

from flows.trainer.numerics import Resolved


def pin(numerics: Resolved) -> None:
    """Fix threads and kernels for this process; see `lifeline.environment` for the rest."""
    torch.set_num_threads(numerics.threads)
    if numerics.compile:
        torch.use_deterministic_algorithms(True)
    else:  # the same for eager kernels, without importing the compiler, 1.5 to 3 s
        torch.set_deterministic_debug_mode("error")
    # Filling fresh memory guards against reading what was never written; no kernel here does.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    # Parts of one product are summed in float32 on a GPU too: float16 holds no sum above 65,504.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class StopSignal:
    """Remembers that SIGTERM came, so that the loop can end between two steps.

    Until `listen` is called, SIGTERM ends the process at once: before a run's first step, which may
    compile for a minute, there is nothing to lose.
    """

    def __init__(self) -> None:
        self.came = False
        self.before = signal.getsignal(signal.SIGTERM)

    def listen(self) -> None:
        """From now on remember the signal instead of dying of it."""
        signal.signal(signal.SIGTERM, self.take)

    def __enter__(self) -> "StopSignal":
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def take(self, number: int, frame: FrameType | None) -> None:
        self.came = True
