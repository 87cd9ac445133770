"""What the machine is, and what its vendor says it can do."""

import os
import platform
from pathlib import Path

# Dense bfloat16 FLOP/s of the SXM boards, from NVIDIA's data sheets (theirs count sparsity twice).
VENDOR_FLOPS = {"H100": 989e12, "H200": 989e12}
OTHER_BOARDS = ("PCIe", "NVL")


def vendor_flops(name: str) -> float | None:
    """The vendor's dense bfloat16 peak in FLOP/s; None for a device that is not in the table.

    Example:
      >>> vendor_flops("NVIDIA H100 80GB HBM3"), vendor_flops("NVIDIA H100 PCIe")
      (989000000000000.0, None)
    """
    if any(board in name for board in OTHER_BOARDS):
        return None
    return next((flops for chip, flops in VENDOR_FLOPS.items() if chip in name), None)


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
