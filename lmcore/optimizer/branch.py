"""When a step may look at a number before it goes on."""

from typing import TypeGuard

import torch
from torch import Tensor


def may_branch(tensor: Tensor | None) -> TypeGuard[Tensor]:
    """Return whether reading ``tensor`` costs nothing: on the CPU, and not while being traced.

    A GPU would have to finish all work before it could answer; a traced branch breaks the graph.
    Selecting old or new values without a branch, number by number, took more than half of an
    update's time on the CPU.

    Args:
      tensor: what would be read, or None, of which nothing has to be.

    Example:
      >>> may_branch(torch.tensor(True)), may_branch(None)
      (True, False)
    """
    on_cpu = tensor is not None and tensor.device.type == "cpu"
    return on_cpu and not torch.compiler.is_compiling()
