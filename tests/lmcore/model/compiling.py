"""One fixture's worth of compiling: run a function eager or compiled, counting compilations."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend

# pytest captures logs, for which PyTorch then renders every graph: a third of the time.
logging.getLogger("torch.__trace").propagate = False


class Compiled:
    """A compiled function that knows how often it was compiled."""

    def __init__(self, function: Callable[..., Any], backend: str):
        torch._dynamo.reset()
        self.counter = CompileCounterWithBackend(backend)
        # One graph: a break in it is an error.
        self.function = torch.compile(function, backend=self.counter, fullgraph=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def compilations(self) -> int:
        """How many graphs were compiled so far."""
        return self.counter.frame_count
