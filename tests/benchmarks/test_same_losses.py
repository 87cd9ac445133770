"""The proof that a refactor changed nothing can also find that it did."""

import pytest

from benchmarks.same_losses import compare

LOG = [
    {"step": step, "loss": 3.0 / step, "grad_norm": 1.0, "lr": 1e-3, "seconds": step}
    for step in (1, 2, 3)
]
NAMES = ["old", "new"]


def test_equal_runs_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Losses and weights agree; how long a step took is not compared."""
    slower = [{**record, "seconds": 9} for record in LOG]
    assert compare(NAMES, (LOG, "abc"), (slower, "abc")) == 0
    assert "3 of 3 steps are the same to the last bit" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["loss", "grad_norm", "lr"])
def test_a_last_bit_is_a_difference(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One step whose value is off by its last bit is named, and the status is 1."""
    changed = [dict(record) for record in LOG]
    changed[1][name] *= 1 + 2**-52
    assert compare(NAMES, (LOG, "abc"), (changed, "abc")) == 1
    out = capsys.readouterr().out
    assert "step 2: " in out
    assert "2 of 3 steps" in out


def test_other_weights_are_a_difference() -> None:
    """Equal losses and other weights are not the same."""
    assert compare(NAMES, (LOG, "abc"), (LOG, "abd")) == 1


def test_runs_of_other_lengths_are_refused() -> None:
    """A run that ended early is no proof."""
    with pytest.raises(ValueError, match="shorter"):
        compare(NAMES, (LOG, "abc"), (LOG[:2], "abc"))
