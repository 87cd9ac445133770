"""The figures of docs/training.md: ``python -m benchmarks.lessons``, half a minute on one core.

The parts: ``parameters``, ``flops`` and ``memory`` (counted from the settings alone), ``depth``
(the stream and the gradients of untrained models), ``norms`` (small models trained on the embedded
stories), ``rope``, ``accumulation`` and ``precision``. Tables are printed as Markdown. No clock is
read: the same versions on the same processor print the same.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.lessons import accounting, arithmetic, depth, norms

PARTS: dict[str, Callable[[], str]] = {
    "parameters": accounting.parameters,
    "flops": accounting.flops,
    "memory": accounting.memory,
    "depth": depth.table,
    "norms": norms.table,
    "rope": arithmetic.rope,
    "accumulation": arithmetic.accumulation,
    "precision": arithmetic.precision,
}


def main(arguments: list[str] | None = None) -> None:
    """Print the parts asked for, each as soon as it is done."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.lessons",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="one or more of the parts; or all")
    asked = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: take one of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    for name in asked:
        print(f"{name}\n\n{PARTS[name]()}\n", flush=True)
