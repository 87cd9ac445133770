"""Tell what this machine is to lmcore: versions, device, threads, and what could change a bit."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from flows.arguments import read_words
from flows.disk.units import size
from flows.trainer import numerics
from flows.trainer.lifeline import CLEARED, environment
from lmcore.planning.peak import peak_flops

HALF = ("bfloat16", "float16")
PACKAGES = ("torch", "prefect", "numpy", "pyarrow", "safetensors", "tyro")


@dataclass(frozen=True)
class Doctor:
    """Tell what this machine is to lmcore."""

    artifacts: str = "artifacts"
    """Folder whose disk is asked for room."""


def doctor(artifacts: str) -> list[tuple[str, str]]:
    """Name and finding, a row each."""
    import torch

    device = numerics.choose_device("auto")
    rows = [("python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [(name, installed(name)) for name in PACKAGES]
    rows += [
        ("cores", f"{numerics.available_cores()} of {os.cpu_count()} usable"),
        ("memory", memory()),
        ("disk", f"{size(room(artifacts))} free"),
        ("device", device if device == "cpu" else f"{device}: {torch.cuda.get_device_name()}"),
        *([("peak", peak(torch.cuda.get_device_name()))] if device == "cuda" else []),
        ("precision", f"{numerics.choose_precision(device)} where --training.precision is auto"),
        (
            "instructions",
            f"{numerics.instruction_set()} (torch: {torch.backends.cpu.get_cpu_capability()})",
        ),
        ("compiler", numerics.compiler() or "none found: torch.compile stays off on the CPU"),
        ("gloo / nccl", f"{distributed('gloo')} / {distributed('nccl')}"),
    ]
    rows += [
        ("pinned", f"{name}={value}")
        for name, value in environment(numerics.available_cores()).items()
        if name != "LMCORE_PARENT"
    ]
    rows += [
        ("cleared", f"{name}={os.environ[name]}, which would change bits: training ignores it")
        for name in CLEARED
        if name in os.environ
    ]
    rows.append(
        (
            "bits",
            "a run repeats bit for bit while device, threads, processes, micro-batch, compile, "
            "torch and instructions above stay the same; log interval, workers and engine never "
            "matter",
        )
    )
    return rows


def main(words: list[str]) -> int:
    options = read_words(Doctor, words, "lmcore doctor", description=__doc__)
    for name, finding in doctor(options.artifacts):
        print(f"{name:<14} {finding}")
    return 0


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" + ("; runs need --engine none" if package == "prefect" else "")


def distributed(backend: str) -> str:
    import torch.distributed as dist

    if not dist.is_available():
        return "no"
    there = {"gloo": dist.is_gloo_available, "nccl": dist.is_nccl_available}[backend]()
    return "yes" if there else "no"


def peak(name: str) -> str:
    """What a GPU could do at most, which a utilisation is a share of."""
    known = {precision: peak_flops(name, precision) for precision in ("float32", *HALF)}
    said = [f"{flops / 1e12:,.0f} TFLOP/s in {kind}" for kind, flops in known.items() if flops]
    return ", ".join(said) or "unknown to lmcore: no utilisation is logged"


def room(folder: str) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    path = os.path.abspath(folder)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def memory() -> str:
    from flows.preflight import free_memory_bytes

    free = free_memory_bytes()
    return f"{size(free)} free" if free else "unknown"
