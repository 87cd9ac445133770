"""How much memory this process, or its part of a GPU, has taken."""

import sys

import torch


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
