"""Torch pinned so that a run repeats; and the signal that asks a run to stop."""

import signal

import pytest
import torch

from flows.trainer.numerics import Resolved
from flows.trainer.reproducible import StopSignal, pin

NUMERICS = Resolved("cpu", False, 1, 1, 1, "2.11.0", "x86_64", "avx2")


@pytest.mark.parametrize("compile", [False, True])
def test_pinned_torch_refuses_what_does_not_repeat(compile: bool) -> None:
    """Operations that may differ from run to run are errors, eager and compiled."""
    from dataclasses import replace

    from torch._inductor import config as inductor

    before = inductor.deterministic
    try:
        pin(replace(NUMERICS, compile=compile))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "highest"
        assert inductor.deterministic is (compile or before)
    finally:
        inductor.deterministic = before


def test_stop_signal_is_remembered_and_given_back() -> None:
    """Once listened for, SIGTERM is remembered; after the block the old handler is in place."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGTERM) is before  # it still ends the process
        stop.listen()
        assert not stop.came
        signal.raise_signal(signal.SIGTERM)
        assert stop.came
    assert signal.getsignal(signal.SIGTERM) is before
