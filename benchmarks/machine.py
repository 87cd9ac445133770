"""What the machine is, and which versions run on it."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.trainer.numerics import available_cores


def cores() -> int:
    """The cores that this process may use."""
    return available_cores()


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def facts(device: str) -> dict[str, Any]:
    """The machine and the versions, as this process sees them."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    return {
        "device": name,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "numpy": version("numpy"),
        "einops": version("einops"),
    }
