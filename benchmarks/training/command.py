"""``python -m benchmarks.training``: our training step beside that of a module GPT."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

from benchmarks.machine import cores
from benchmarks.training.cases import CASES, Precision
from benchmarks.training.figures import as_values, differences, rows, table
from benchmarks.training.rounds import Measured, in_turns, matmul_flops
from benchmarks.training.sides import MATMUL_SIZE, CompileMode, Mode, Work, sides_of
from lmcore.errors import InputError
from lmcore.model.counts import count_params, training_flops
from lmcore.planning.peak import peak_flops

WARMUP_STEPS = {"cpu": 2, "cuda": 10}
BLOCKS = {"cpu": 5, "cuda": 10}


def main(words: list[str] | None = None) -> int:
    """Measure what the command line asks for, print it, and return the exit status."""
    asked = parse(words)
    found = []
    for precision in asked.precision:
        works = [work_of(size, asked, precision) for size in asked.size]
        peak = peak_of(works[0])
        for work, mode in [(work, mode) for work in works for mode in asked.mode]:
            found.append(compare(work, mode, peak, asked))
            if asked.json:  # after each, so that a run cut short leaves what it has
                Path(asked.json).write_text(json.dumps(found, indent=2) + "\n")
    return 1 if any(one["failed"] or one["differences"] for one in found) else 0


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="Compare lmcore's training step with that of a GPT as nn.Module.",
    )
    add = parser.add_argument
    add("--size", type=names(*CASES), default=["1m"], help=f"some of {', '.join(CASES)}")
    add("--mode", type=names("eager", "compiled"), default=["eager", "compiled"])
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add(
        "--precision",
        type=names(*get_args(Precision)),
        default=[None],
        help="of the matrix products; float32 on a CPU and bfloat16 on a GPU without it",
    )
    add("--against", type=names("faithful", "nanogpt"), default=["faithful", "nanogpt"])
    add("--free", action="store_true", help="also time our step without deterministic kernels")
    add("--cuda-graph", dest="graph", action="store_true", help="also time it as a CUDA graph")
    add("--plain", action="store_true", help="also time the modules in a plain script")
    add("--readable", action="store_true", help="also time it, eager, with torch.func's gradients")
    add(
        "--compile-mode",
        type=names(*get_args(CompileMode)),
        default=["default"],
        help=f"of our step, some of {', '.join(get_args(CompileMode))}",
    )
    add("--steps", type=positive, default=0, help="steps in a block")
    add("--blocks", type=positive, default=0, help="blocks of each side, taken in turns")
    add("--warmup", type=positive, default=0, help="steps before the clock runs")
    add("--batch-size", type=positive, default=0, help="sequences in a step")
    add("--threads", type=positive, default=cores(), help="CPU threads of each process")
    add("--tokens", default="", help="a file of little-endian uint16 ids; random ids without it")
    add("--together", action="store_true", help="start and compile all sides at once")
    add("--json", default="", help="where to write the figures")
    asked = parser.parse_args(words)
    if asked.graph and asked.device != "cuda":
        parser.error("--cuda-graph: only CUDA has such graphs; pass --device cuda too")
    return asked


def names(*known: str):
    """A type for argparse: some of the names, separated by commas."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(
                f"{', '.join(map(repr, unknown))}: choose from {', '.join(known)}"
            )
        return chosen

    return read


def positive(text: str) -> int:
    """A type for argparse: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1 is expected")
    return int(text)


def work_of(size: str, asked: argparse.Namespace, precision: Precision | None) -> Work:
    """What every side does: the case's batch and steps where the command line has none."""
    case, device = CASES[size], asked.device
    return Work(
        size=size,
        device=device,
        batch_size=asked.batch_size or case.batch_size[device],
        threads=asked.threads,
        warmup_steps=asked.warmup or WARMUP_STEPS[device],
        steps=asked.steps or case.steps[device],
        blocks=asked.blocks or BLOCKS[device],
        tokens_file=str(Path(asked.tokens).resolve()) if asked.tokens else "",
        precision=precision,
    )


class Peak(NamedTuple):
    """What the machine is, and what it can do at most, in FLOP/s."""

    matmul: float
    vendor: float | None
    """What the vendor says; None where that is not known."""
    facts: dict[str, Any]


def peak_of(work: Work) -> Peak:
    """Measure the machine in the precision of the work.

    Raises:
      InputError: it cannot do such work.
    """
    matmul, machine = matmul_flops(work)
    if machine.failed:
        raise InputError(f"nothing can be measured on --device {work.device}: {machine.failed}")
    facts = machine.ready["facts"]
    return Peak(matmul, peak_flops(facts["device"], work.training.precision), facts)


def compare(work: Work, mode: Mode, peak: Peak, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in one mode, and print it."""
    print("\n" + heading(work, mode, peak), flush=True)
    sides = sides_of(
        mode,
        tuple(asked.against),
        tuple(asked.compile_mode),
        free=asked.free,
        graph=asked.graph,
        readable=asked.readable,
        plain=asked.plain,
    )
    measured = in_turns(sides, work, say, together=asked.together)
    found = rows(measured, work, peak.matmul, peak.vendor)
    unlike = differences(measured, work.training.precision)
    failed = {one.side.name: one.failed for one in measured if one.failed}
    print(table(found) if found else "no side came to its end")
    for line in [*(f"NOT THE SAME WORK: {line}" for line in unlike), *failure_lines(measured)]:
        print(line)
    sys.stdout.flush()
    return {
        "size": work.size,
        "mode": mode,
        "facts": peak.facts | {"cores": cores(), "threads": work.threads},
        "work": vars(work) | {"tokens": work.steps * work.blocks * work.tokens_of_step},
        "matmul_flops": peak.matmul,
        "vendor_flops": peak.vendor,
        "flops_per_token": training_flops(work.case.model, 1),
        "rows": [as_values(row) for row in found],
        "differences": unlike,
        "failed": failed,
    }


def say(text: str) -> None:
    """Tell how far it is, beside the table."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def heading(work: Work, mode: Mode, peak: Peak) -> str:
    """What is measured, where, and with which versions."""
    facts, matmul, vendor = peak.facts, peak.matmul, peak.vendor
    model, params = work.case.model, count_params(work.case.model)
    size, cuda = MATMUL_SIZE[work.device], f", CUDA {facts['cuda']}" if facts["cuda"] else ""
    tokens = work.steps * work.blocks * work.tokens_of_step
    text = work.tokens_file or "random ids"
    of_vendor = f", {matmul / vendor:.0%} of the vendor's {vendor / 1e12:,.0f}" if vendor else ""
    return "\n".join(
        (
            f"{work.size}, {mode}",
            f"machine   {facts['device']}; {cores()} cores, {work.threads} threads a process",
            f"versions  Python {facts['python']}, torch {facts['torch']}{cuda}, "
            f"numpy {facts['numpy']}, einops {facts['einops']}",
            f"model     {params.non_embedding:,} parameters and {params.embedding:,} in the "
            f"embeddings; {training_flops(model, 1) / 1e6:,.3g} MFLOP a token",
            f"work      {work.batch_size} sequences of {model.context_length} tokens a step, "
            f"{work.training.precision}, of {text}",
            f"blocks    {work.blocks} of {work.steps} steps after {work.warmup_steps} to warm up: "
            f"{tokens:,} tokens a side",
            f"matmul    {size:,}³ in {work.training.precision}: "
            f"{matmul / 1e12:,.3f} TFLOP/s{of_vendor}",
        )
    )


def failure_lines(measured: list[Measured]) -> list[str]:
    """Why sides are missing from the table."""
    return [f"FAILED {one.side.name}: {one.failed}" for one in measured if one.failed]
