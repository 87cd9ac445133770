"""The memory of attention, measured in processes of its own."""

import doctest
import json
from pathlib import Path

import pytest

from benchmarks import attention

needs_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is Linux's to tell"
)


def test_examples_are_true():
    """The example of the exponent shows what it says."""
    assert doctest.testmod(attention) == (0, 1)


@needs_linux
@pytest.mark.slow
def test_a_small_run_from_processes_to_picture(tmp_path, capsys):
    """Every point is measured, and told, written and drawn."""
    plot, figures = tmp_path / "plot.svg", tmp_path / "figures.json"
    lengths = ["--lengths", "256", "512"]
    attention.main([*lengths, "--plot", str(plot), "--json", str(figures)])
    told = capsys.readouterr().out
    assert all(way in told for way in attention.WAYS)
    found = json.loads(figures.read_text())
    assert found["lengths"] == [256, 512]
    assert [len(peaks) for peaks in found["peak_bytes"].values()] == [2, 2, 2]
    assert "definition" in plot.read_text()


def test_points_without_memory_are_told_and_drawn(tmp_path):
    """A process that had room enough adds nothing: no exponent, and the picture is drawn."""
    peaks = {"definition": [0, 4 << 20], "tiles": [0, 0], "fused": [1 << 20, 2 << 20]}
    found = {"machine": attention.facts("cpu"), "lengths": [1, 2], "peak_bytes": peaks}
    told = [line.split()[-1] for line in attention.report(found).splitlines()[-3:]]
    assert told == ["nan", "nan", "1.00"]
    attention.draw(found, tmp_path / "plot.svg")
    assert "fused" in (tmp_path / "plot.svg").read_text()


@needs_linux
@pytest.mark.slow
def test_only_the_definition_grows_with_the_square():
    """Four times the length: sixteen times the memory by definition, less than eight otherwise."""
    ratios = {
        way: attention.peak_of(way, 4_096) / attention.peak_of(way, 1_024) for way in attention.WAYS
    }
    assert ratios["definition"] == pytest.approx(16, rel=0.1)
    assert ratios["tiles"] < 8
    assert ratios["fused"] < 8
