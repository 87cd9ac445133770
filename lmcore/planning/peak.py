"""What a GPU could do at most: dense FLOP/s by its name and the precision, from its datasheet.

A utilisation is a share of these, so they are what the vendor states *without* sparsity, at the
boost clock and full power. A device that is not listed has no peak here, and no utilisation.
"""

import re

_T = 1e12
_PRECISIONS = ("float32", "float16", "bfloat16")

# Name as CUDA gives it (a regular expression for all of it), FLOP/s in float32 without TF32, which
# training leaves off, then in float16 and bfloat16 with sums in float32; None: not supported.
# From NVIDIA's datasheet of each product; for GeForce from the whitepapers of the Ada (RTX 4090)
# and GA102 (RTX 3090) architectures. Where a sheet gives figures with sparsity, half of them.
_PEAKS: tuple[tuple[str, float, float | None, float | None], ...] = (
    (r"NVIDIA H200", 67 * _T, 989 * _T, 989 * _T),
    (r"NVIDIA H100 80GB HBM3", 67 * _T, 989 * _T, 989 * _T),
    (r"NVIDIA H100 PCIe", 51 * _T, 756 * _T, 756 * _T),
    (r"NVIDIA H100 NVL", 60 * _T, 835 * _T, 835 * _T),
    (r"NVIDIA A100-(SXM4|PCIE)-(40|80)GB", 19.5 * _T, 312 * _T, 312 * _T),
    (r"NVIDIA A100 80GB PCIe", 19.5 * _T, 312 * _T, 312 * _T),
    (r"NVIDIA A10", 31.2 * _T, 125 * _T, 125 * _T),
    (r"NVIDIA L4", 30.3 * _T, 121 * _T, 121 * _T),
    (r"NVIDIA L40S", 91.6 * _T, 362 * _T, 362 * _T),
    (r"NVIDIA GeForce RTX 4090", 82.6 * _T, 165 * _T, 165 * _T),
    (r"NVIDIA GeForce RTX 3090", 35.6 * _T, 71 * _T, 71 * _T),
    (r"Tesla V100-SXM2-(16|32)GB", 15.7 * _T, 125 * _T, None),
    (r"Tesla V100-PCIE-(16|32)GB", 14 * _T, 112 * _T, None),
    (r"(NVIDIA |)Tesla T4", 8.1 * _T, 65 * _T, None),
)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return the dense FLOP/s that a GPU can do at most, None where they are not known.

    Args:
      device_name: as ``torch.cuda.get_device_name`` gives it.
      precision: of the matrix products: float32 (without TF32), float16 or bfloat16.

    Returns:
      FLOP/s; a multiplication and an addition are two.

    Example:
      >>> peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16") / 1e12
      312.0
      >>> peak_flops("a GPU of next year", "bfloat16") is None
      True

    References:
      The vendor's datasheets, named above the table; Chowdhery et al., 2022, PaLM, appendix B
      (model FLOPs utilisation).
    """
    for pattern, *by_precision in _PEAKS:
        if re.fullmatch(pattern, device_name) and precision in _PRECISIONS:
            return by_precision[_PRECISIONS.index(precision)]
    return None
