"""The same promises on every device: each test runs on the CPU, and on CUDA where there is one.

    python -m pytest tests/gpu

Numbers on CUDA are compared with the CPU's, and runs with themselves. Kernels are pinned as in a
training process.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from flows.trainer.numerics import Resolved
from flows.trainer.reproducible import pin

# cuBLAS reads it when it begins; without it deterministic kernels are refused.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

NUMERICS = Resolved("cpu", False, 4, 1, 1, torch.__version__, "", "")


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Where the test computes."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    return request.param


@pytest.fixture(autouse=True)
def pinned_as_in_training() -> Iterator[None]:
    """Deterministic kernels and full float32, undone afterwards."""
    threads, exact = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    pin(NUMERICS)
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(exact)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # pyright: ignore
