"""Peaks of GPUs: the datasheets' numbers, and none where nobody knows."""

import pytest

from lmcore.planning import peak
from lmcore.planning.peak import peak_flops


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "float16", 312),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 80GB HBM3", "float32", 67),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H200", "bfloat16", 989),
        ("NVIDIA L4", "bfloat16", 121),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla T4", "float16", 65),
    ],
)
def test_peaks_are_the_datasheets(name: str, precision: str, teraflops: float) -> None:
    """The dense peak, without sparsity, as the vendor's datasheet gives it."""
    assert peak_flops(name, precision) == teraflops * 1e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA H400", "bfloat16"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16"),
        ("NVIDIA GeForce RTX 4090 D", "bfloat16"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16"),
        ("Tesla T4", "bfloat16"),
        ("NVIDIA L4", "float64"),
        ("", "float32"),
    ],
)
def test_unknown_is_none(name: str, precision: str) -> None:
    """A slower sibling, a slice of a GPU, or a dtype that it lacks has no peak to be compared."""
    assert peak_flops(name, precision) is None


def test_half_precision_is_faster_than_float32() -> None:
    """No row has its columns exchanged."""
    for pattern, single, half, brain in peak._PEAKS:
        assert half is not None, pattern
        assert single < half, pattern
        assert brain in (half, None), pattern
