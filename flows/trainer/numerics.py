"""How the same mathematics is executed: device, threads, compilation, splitting.

These settings change the last bits of a result and not its meaning. They are chosen once, at a
run's start, recorded beside its checkpoints, and fixed for the run's life (a resumed run uses what
was recorded). None of them is part of an artifact's key.
"""

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path
from typing import Literal

from lmcore.errors import InputError

Device = Literal["auto", "cpu", "cuda", "mps"]
Switch = Literal["auto", "on", "off"]
Precision = Literal["float32", "bfloat16", "float16"]

# On a CPU compiling costs 13 to 16 s once and gives 1 to 9%, see `python -m benchmarks.training`.
# For an H200 it took 54 s and made the step 2.6 times faster (`--size cs336 --device cuda`).
COMPILE_PAYS_AFTER_SECONDS = {"cpu": 1200.0, "cuda": 90.0, "mps": float("inf")}
# Sustained FLOP/s of a small model, of a thread or of a GPU, to decide whether compiling can pay
# and to show a time before the run: orders of magnitude. Two threads of an idle AMD EPYC trained
# models of 1M to 12M parameters at 1.5e11 to 1.9e11 in float32, 2.6e11 to 4.7e11 in bfloat16, and
# at a quarter where other work shared the cores; an H200 at 1.3e14 eager and 3.3e14 compiled (the
# preset cs336); mps was not measured. Timing a matrix product of the model's shapes tells no more:
# training went at 0.3 to 1.2 times its speed.
SUSTAINED_FLOPS = {"cuda": 1e14, "mps": 2e12}
SUSTAINED_FLOPS_OF_A_THREAD = {"float32": 5e10, "bfloat16": 1.2e11, "float16": 5e10}
# Logits of so many tokens at once: on a CPU as fast as all of them, in less memory, see
# `python -m benchmarks.training`. 0 makes all of them, as the steps were that a GPU was timed with.
LOSS_CHUNK_TOKENS = {"cpu": 1_024, "cuda": 0, "mps": 0}
# Vector instructions for products of bfloat16; a CPU without them imitates those at a loss. On two
# cores of an AMD EPYC a large product runs at 4 times the speed of float32, a step at 1.6 times (1M
# parameters) to 2.6 times (cs336): `python -m benchmarks.training --precision float32,bfloat16`.
MULTIPLIES_BFLOAT16 = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Numerics:
    """How a run is to be executed; what is "auto" or 0 is chosen from the machine and the work."""

    device: Device = "auto"
    """Where to compute; auto takes CUDA, then MPS, then the CPU."""
    compile: Switch = "auto"
    """Compile the training step; auto does so where the run is long enough to pay for it."""
    cuda_graph: Switch = "auto"
    """Replay a step as one CUDA graph, which spares a small model's launches; auto on one GPU."""
    micro_batch: int = 0
    """Sequences a forward pass on each process; 0 takes the largest split that fits in memory."""
    loss_chunk_tokens: int = 0
    """Tokens whose logits exist at once; 0 takes 1,024 on a CPU, and elsewhere all of them."""
    activation_checkpointing: bool = False
    """Keep only each block's input for the backward pass, and compute the block again there."""
    threads: int = 0
    """CPU threads of each training process; 0 takes every core there is."""
    processes: int = 1
    """Training processes (data parallel), under torchrun where there is more than one."""


@dataclass(frozen=True)
class Resolved:
    """Numerics with nothing left to choose, and the facts of the machine that change bits."""

    device: str
    compile: bool
    micro_batch: int
    threads: int
    processes: int
    torch: str
    machine: str
    instruction_set: str
    cuda_graph: bool = False
    accelerator: str = ""
    loss_chunk_tokens: int = 0
    activation_checkpointing: bool = False

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def faults(numerics: Numerics) -> list[str]:
    """What is wrong with the settings, a line each."""
    found = [
        f"{flag} is {value}: it must be at least {least}"
        for flag, value, least in [
            ("--numerics.micro-batch", numerics.micro_batch, 0),
            ("--numerics.loss-chunk-tokens", numerics.loss_chunk_tokens, 0),
            ("--numerics.threads", numerics.threads, 0),
            ("--numerics.processes", numerics.processes, 1),
        ]
        if value < least
    ]
    if numerics.cuda_graph == "on" and numerics.processes > 1:
        found.append(
            f"--numerics.cuda-graph is on with {numerics.processes} processes: a graph holds the "
            "step of one; leave it off, or use --numerics.processes 1"
        )
    if numerics.threads > 4 * available_cores():
        found.append(
            f"--numerics.threads is {numerics.threads}: this machine has {available_cores()} cores"
        )
    return found


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerator_is_possible() -> bool:
    """Whether looking for a GPU is worth importing torch (1 to 3 s)."""
    if sys.platform != "linux":
        return True
    return any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def choose_device(device: Device) -> str:
    """The device to compute on.

    Raises:
      InputError: the device that was asked for is not there.
    """
    if device == "cpu" or (device == "auto" and not accelerator_is_possible()):
        return "cpu"
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device != "auto":
        if not present[device]:
            raise InputError(
                f"--numerics.device is {device}: this machine offers none to torch "
                f"{torch.__version__}; use --numerics.device cpu or auto"
            )
        return device
    return next((name for name, there in present.items() if there), "cpu")


def choose_precision(device: str) -> Precision:
    """bfloat16 where the device multiplies it, float16 on other GPUs, float32 elsewhere."""
    if device == "cpu":
        return "bfloat16" if instruction_set() in MULTIPLIES_BFLOAT16 else "float32"
    if device != "cuda":
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def loss_chunk_tokens(asked: int, device: str) -> int:
    """Tokens whose logits exist at once; 0 for all of a micro-batch."""
    return asked or LOSS_CHUNK_TOKENS[device]


def sustained_flops(device: str, precision: str, threads: int) -> float:
    """FLOP/s to expect of a training process, eager: an order of magnitude; "auto" as float32."""
    if device == "cpu":
        of_a_thread = SUSTAINED_FLOPS_OF_A_THREAD
        return threads * of_a_thread.get(precision, of_a_thread["float32"])
    return SUSTAINED_FLOPS[device]


def compile_pays(device: str, seconds: float) -> bool:
    """Whether a run of so many seconds is long enough, and the means there, to compile for."""
    return not missing_for_compiling(device) and seconds > COMPILE_PAYS_AFTER_SECONDS[device]


def will_compile(numerics: Numerics, device: str, *, total_flops: float, precision: str) -> bool:
    """Whether a run of so much work compiles its step: as asked, or where that pays.

    Args:
      numerics: what was asked for.
      device: where the run computes.
      total_flops: of the whole run.
      precision: resolved.
    """
    if numerics.compile != "auto":
        return numerics.compile == "on"
    speed = sustained_flops(device, precision, threads_of(numerics)) * numerics.processes
    return compile_pays(device, total_flops / speed)


def threads_of(numerics: Numerics) -> int:
    """CPU threads of each training process: those asked for, or its share of the cores."""
    return numerics.threads or max(1, available_cores() // numerics.processes)


def missing_for_compiling(device: str) -> str:
    """What torch.compile needs for the device and this machine lacks, in words; "" for nothing."""
    if device == "cpu":
        return "" if compiler() else "a C++ compiler (g++ or clang++)"
    if device != "cuda":
        return ""
    needs = {  # Triton builds the launchers of its kernels from C
        "Triton": find_spec("triton"),
        "a C compiler (gcc or clang)": c_compiler(),
        "Python's C headers": (Path(get_path("include")) / "Python.h").exists(),
    }
    return ", ".join(name for name, there in needs.items() if not there)


def c_compiler() -> str | None:
    """The C compiler that Triton would call."""
    wanted = [os.environ.get("CC", ""), "gcc", "clang"]
    return next((found for name in wanted if name and (found := shutil.which(name))), None)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call on a CPU."""
    wanted = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    return next((found for name in wanted if name and (found := shutil.which(name))), None)


def resolve(
    numerics: Numerics,
    *,
    device: str,
    total_flops: float,
    micro_batch: int,
    precision: str = "float32",
) -> Resolved:
    """Choose what was left to choose, from the total work of the run, and its precision.

    Raises:
      InputError: compiling was asked for, and something for it is missing; or a CUDA graph, and the
        device is another.
    """
    from importlib.metadata import version

    if numerics.compile == "on" and (missing := missing_for_compiling(device)):
        raise InputError(
            f"--numerics.compile is on and this machine lacks {missing}, which torch.compile needs "
            f"for {device}: install it, or pass --numerics.compile off"
        )
    graph = {"on": True, "off": False, "auto": device == "cuda" and numerics.processes == 1}
    if numerics.cuda_graph == "on" and device != "cuda":
        raise InputError(
            f"--numerics.cuda-graph is on and the device is {device}: only CUDA has such graphs; "
            "leave it off"
        )
    return Resolved(
        device=device,
        compile=will_compile(numerics, device, total_flops=total_flops, precision=precision),
        micro_batch=numerics.micro_batch or micro_batch,
        threads=threads_of(numerics),
        processes=numerics.processes,
        torch=version("torch"),
        machine=platform.machine(),
        instruction_set=instruction_set(),
        cuda_graph=graph[numerics.cuda_graph],
        accelerator=accelerator(device),
        loss_chunk_tokens=loss_chunk_tokens(numerics.loss_chunk_tokens, device),
        activation_checkpointing=numerics.activation_checkpointing,
    )


def instruction_set() -> str:
    """The widest vector instructions of the CPU, which decide its last bits."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
    known = ["amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx", "sse4_2"]
    return next((name for name in known if name in flags), platform.machine())


def accelerator(device: str) -> str:
    """The GPU and its libraries, which decide the last bits of what it computes; "" without."""
    if device != "cuda":
        return ""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()}, sm_{major}{minor}, CUDA {torch.version.cuda}"


def settle(recorded: Resolved | None, now: Resolved, asked: Numerics, *, allow_drift: bool):
    """The numerics to go on with: the recorded ones, unless the user or the machine differ.

    Args:
      recorded: what the run began with; None for a new run.
      now: what would be chosen today.
      asked: what the user asked for; fields left at "auto" or 0 follow the record.
      allow_drift: go on under other numerics all the same.

    Returns:
      The numerics to use, and the names of the fields that drift from the record.

    Raises:
      InputError: something differs and ``allow_drift`` is off.
    """
    if recorded is None:
        return now, []
    left_open = {
        "device": asked.device == "auto",
        "compile": asked.compile == "auto",
        "cuda_graph": asked.cuda_graph == "auto",
        "micro_batch": asked.micro_batch == 0,
        "threads": asked.threads == 0,
        "loss_chunk_tokens": asked.loss_chunk_tokens == 0,
    }
    kept = {name: getattr(recorded, name) for name, is_open in left_open.items() if is_open}
    of_device = ("threads", "device", "cuda_graph", "loss_chunk_tokens")
    if kept.get("threads", 0) > available_cores() or kept.get("device") not in (None, now.device):
        kept = {k: v for k, v in kept.items() if k not in of_device}
    chosen = replace(now, **kept)
    drift = [k for k, v in recorded.as_dict().items() if v != chosen.as_dict()[k]]
    if drift and not allow_drift:
        listed = ", ".join(f"{k} {getattr(recorded, k)} -> {getattr(chosen, k)}" for k in drift)
        raise InputError(
            f"the run that would be resumed began under other numerics ({listed}), so its last "
            "bits would differ; give it the same machine and settings, or pass --allow-drift"
        )
    return chosen, drift
