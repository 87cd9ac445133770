"""Memory of attention as a sequence grows: ``python -m benchmarks.attention``.

The definition, ours in tiles and PyTorch's fused kernel, forward and backward by `torch.func`, on
causal attention of one sequence. Each point is a fresh process, and its figure what the peak of the
process gained over the moment when its inputs lay ready. Memory is counted, no clock is read, so a
busy machine does no harm.

The last column is the exponent between the last two lengths: 2 where memory grows with the square
of the length, 1 where it grows with the length.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmarks.machine import facts
from benchmarks.tokenizer.worker import forget_peak, peak_bytes

ROOT = Path(__file__).parents[1]
Way = Literal["definition", "tiles", "fused"]
WAYS: tuple[Way, ...] = ("definition", "tiles", "fused")
LENGTHS = (256, 512, 1_024, 2_048, 4_096, 8_192)
HEADS, HEAD_DIM = 1, 64
COLOURS = {"definition": "#d9772b", "tiles": "#3b8fd4", "fused": "#3aa676"}
INK = "#808080"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and, if asked, draw it and write the figures."""
    options = parser().parse_args(arguments)
    if options.one:
        print(measure(options.one[0], int(options.one[1])))
        return
    peaks = {way: [peak_of(way, length) for length in options.lengths] for way in WAYS}
    found = {"machine": facts("cpu"), "lengths": options.lengths, "peak_bytes": peaks}
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        draw(found, options.plot)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--plot", type=Path, help="file that gets the picture, as SVG")
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "LENGTH"), help=argparse.SUPPRESS)
    return parser


def peak_of(way: Way, length: int) -> int:
    """`measure` in a fresh process.

    Raises:
      RuntimeError: it failed; the message is the last line that it said.
    """
    print(f"{way}, {length:,}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.attention", "--one", way, str(length)]
    # Freed memory goes back at once, so that the peak is of what was in use.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return int(done.stdout.split()[-1])


def measure(way: Way, length: int) -> int:
    """Bytes that a forward and a backward pass add to the peak of this process."""
    import torch

    attention, small = attention_of(way), 64
    for n in (small, length):  # once on little, for what torch loads on first use
        q, k, v = torch.randn(3, 1, HEADS, n, HEAD_DIM, generator=torch.manual_seed(0))

        def loss(q: Any, k: Any, v: Any) -> Any:
            return attention(q, k, v, is_causal=True).square().sum()

        held = forget_peak()
        torch.func.grad(loss, argnums=(0, 1, 2))(q, k, v)
    return peak_bytes() - held


def attention_of(way: Way) -> Callable[..., Any]:
    """The function of that name."""
    from lmcore.model.attention import fused_attention, scaled_dot_product_attention
    from lmcore.model.flash_attention import flash_attention

    ways = {
        "definition": scaled_dot_product_attention,
        "tiles": flash_attention,
        "fused": fused_attention,
    }
    return ways[way]


def exponent(lengths: list[int], peaks: list[int]) -> float:
    """p, where the last two points lie on ``c * length ** p``; nan where one of them added nothing.

    Example:
      >>> exponent([1, 2, 4], [5, 10, 40]), exponent([1, 2], [0, 10])
      (2.0, nan)
    """
    if min(peaks[-2:]) <= 0:  # so little that it fitted into what the process had
        return math.nan
    return math.log(peaks[-1] / peaks[-2]) / math.log(lengths[-1] / lengths[-2])


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    machine, lengths = found["machine"], found["lengths"]
    lines = [
        f"{machine['device']}, Python {machine['python']}, torch {machine['torch']}",
        f"causal attention, forward and backward, {HEADS} head of {HEAD_DIM}, float32; MiB",
        "",
        f"{'length':>12}" + "".join(f"{length:>9,}" for length in lengths) + "  exponent",
    ]
    for way, peaks in found["peak_bytes"].items():
        cells = "".join(f"{peak / 2**20:>9.1f}" for peak in peaks)
        last = f"{exponent(lengths, peaks):>10.2f}" if len(lengths) > 1 else ""
        lines.append(f"{way:>12}{cells}{last}")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Both axes logarithmic, so that a power is a straight line.

    The ground is transparent and the ink grey: the picture stands on light and dark pages.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    lengths = found["lengths"]
    for way, peaks in found["peak_bytes"].items():
        sizes = [peak / 2**20 for peak in peaks]
        axes.loglog(lengths, sizes, "o-", ms=4, color=COLOURS[way], label=way, base=2)
    axes.set_xlabel("tokens of the sequence", color=INK)
    axes.set_ylabel("MiB beyond the inputs", color=INK)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color=INK, alpha=0.25, lw=0.6)
    axes.tick_params(colors=INK, length=0, which="both")
    axes.spines[:].set_visible(False)
    axes.legend(labelcolor=INK, frameon=False)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
