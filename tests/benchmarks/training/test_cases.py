"""The work of the benchmarks is that of the presets."""

import pytest

from benchmarks.training.cases import CASES, Device
from flows.presets import preset
from lmcore.model.counts import count_params


@pytest.mark.parametrize(
    ("size", "name", "device"),
    [
        ("1m", "tinystories", "cuda"),
        ("10m", "tinystories-small", "cuda"),
        ("cs336", "cs336", "cuda"),
        ("cs336", "cs336-cpu", "cpu"),
        ("tinystories-base", "tinystories-base", "cuda"),
    ],
)
def test_a_case_is_its_preset(size: str, name: str, device: Device) -> None:
    """Model and batch are the preset's, its vocabulary filled in."""
    run, case = preset(name), CASES[size]
    assert case.model.vocab_size == run.tokenizer.vocab_size
    assert {**vars(case.model), "vocab_size": 0} == vars(run.model)
    assert case.batch_size[device] == run.training.batch_size


@pytest.mark.parametrize(("size", "millions"), [("1m", 1), ("10m", 10), ("50m", 50)])
def test_a_size_is_what_its_name_says(size: str, millions: int) -> None:
    """Parameters outside the embeddings are within 10% of the name."""
    assert count_params(CASES[size].model).non_embedding == pytest.approx(millions * 1e6, rel=0.1)
