"""What the machine is, and how much of its memory this process has taken."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_bytes(device: str) -> int:
    """The most memory since `forget_peak`: of the process on a CPU, of tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            rows = dict(line.split(":", 1) for line in status)
        return int(rows["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def release(device: str) -> None:
    """Leave a GPU's memory to the side whose turn comes; a CUDA graph keeps its own."""
    if device == "cuda":
        torch.cuda.empty_cache()


def forget_peak(device: str) -> None:
    """Begin a new peak, after what compiling has taken."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")


def reserved_bytes(device: str) -> int:
    """The most that PyTorch has taken of a GPU, graphs and fragments included; 0 on a CPU."""
    return torch.cuda.max_memory_reserved() if device == "cuda" else 0


def facts(device: str) -> dict[str, Any]:
    """The machine and the versions, as this process sees them."""
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    return {
        "device": name,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "numpy": version("numpy"),
        "einops": version("einops"),
    }
