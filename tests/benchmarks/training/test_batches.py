"""Batches made on the device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.training.batches import batches
from benchmarks.training.sides import Work
from lmcore.errors import InputError

WORK = Work("tiny", "cpu", batch_size=3, threads=1, warmup_steps=2, steps=3, blocks=2)


def write(path: Path, ids: np.ndarray) -> str:
    """A file of little-endian uint16 ids."""
    ids.astype("<u2").tofile(path)
    return str(path)


def test_windows_are_read_from_the_file(tmp_path: Path) -> None:
    """Every row is a run of the file's tokens, its targets one further; no step is missing."""
    text = write(tmp_path / "tokens.bin", np.arange(64))
    found = list(batches(replace(WORK, tokens_file=text)))
    assert len(found) == 2 + 3 * 2
    for inputs, targets in found:
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.is_contiguous()
        assert torch.equal(inputs, inputs[:, :1] + torch.arange(16))
        assert torch.equal(targets, inputs + 1)
    assert len({tuple(inputs[:, 0].tolist()) for inputs, _ in found}) == len(found)


def test_every_side_reads_the_same() -> None:
    """Two iterations give the same random tokens; another seed gives others."""
    first, second = batches(WORK), batches(WORK)
    for (left, _), (right, _) in zip(first, second, strict=True):
        assert torch.equal(left, right)
    other, _ = next(batches(replace(WORK, seed=1)))
    assert not torch.equal(other, next(batches(WORK))[0])


def test_random_tokens_are_of_the_vocabulary() -> None:
    """All 64 ids occur, and no other."""
    assert {int(token) for inputs, _ in batches(WORK) for token in inputs.flatten()} <= set(
        range(64)
    )


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.arange(60, 70), r"holds 10 tokens: more than 17 are needed"),
        (np.arange(60, 100), r"has the token id 99: the model of size tiny knows 64"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, ids: np.ndarray, words: str) -> None:
    """Too few tokens, or ids beyond the vocabulary, are an error that says so."""
    text = write(tmp_path / "tokens.bin", ids)
    with pytest.raises(InputError, match=words):
        next(batches(replace(WORK, tokens_file=text)))
