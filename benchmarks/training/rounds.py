"""Measuring processes that take turns: A B A B …, so that what slows the machine slows both."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.sides import MATMUL_SIZE, Side, Work, to_json
from flows.trainer.lifeline import CLEARED, environment

ROOT = Path(__file__).parents[2]
MATMULS = {"cpu": 4, "cuda": 200}  # a second or less a block


@dataclass
class Measured:
    """What one side did. Where ``failed`` says why it could not, the rest is empty."""

    side: Side
    ready: dict[str, Any] = field(default_factory=dict)
    """What the process said when it had warmed up, see `benchmarks.training.worker.prepare`."""
    seconds: list[float] = field(default_factory=list)
    """Of each block."""
    last: dict[str, float] = field(default_factory=dict)
    """Loss and gradient norm of the last step."""
    memory_bytes: int = 0
    """The peak."""
    reserved_bytes: int = 0
    """What PyTorch had taken of a GPU at most; 0 on a CPU."""
    failed: str = ""
    """The last lines of a process that ended early."""


class Measuring:
    """One measuring process; a context manager that ends it."""

    def __init__(self, side: Side, work: Work) -> None:
        self.measured, self.work = Measured(side), work

    def __enter__(self) -> "Measuring":
        with ExitStack() as stack:
            # A cache of its own, empty at first: compiling is measured cold.
            cache = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self.words = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.training.worker"),
                    json.dumps(to_json(self.measured.side, self.work)),
                ],
                cwd=ROOT,
                env=child_environment(self.measured.side, self.work.threads, cache),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.words,
                text=True,
            )
            self.process = stack.enter_context(process)  # which closes its pipes, and waits
            stack.callback(process.kill)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def answer(self) -> dict[str, Any]:
        """The next answer; empty, and ``failed`` set, where the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.words.seek(0)
        tail = self.words.read().strip().splitlines()[-12:]
        self.measured.failed = (
            tail[-1].removeprefix("error: ")
            if tail and tail[-1].startswith("error: ")
            else "\n".join([f"its process ended with exit status {code}", *tail])
        )
        return {}

    def wait_until_ready(self) -> None:
        self.measured.ready = self.answer()

    def go(self, steps: int) -> None:
        """Make a block of steps, unless the process has failed."""
        if self.measured.failed:
            return
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; what it said last is read below
            os.write(self.process.stdin.fileno(), f"go {steps}\n".encode())
        if answer := self.answer():
            self.measured.seconds.append(answer["seconds"])
            self.measured.last = answer["last"]
            self.measured.memory_bytes = answer["memory_bytes"]
            self.measured.reserved_bytes = answer["reserved_bytes"]


def child_environment(side: Side, threads: int, cache: str) -> dict[str, str]:
    """What our training processes get, or its user's for a plain script; and an empty cache."""
    if side.plain:
        return dict(os.environ) | {"TORCHINDUCTOR_CACHE_DIR": cache}
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return kept | environment(threads, compiled=cache)


def in_turns(
    sides: list[Side], work: Work, say: Callable[[str], None], *, together: bool = False
) -> list[Measured]:
    """Start every side, then let them take turns, block by block.

    Args:
      sides: in the order of their turns.
      work: the same for all.
      say: is told what happens.
      together: start them at once, rather than one when the other has warmed up. Saves time on a
        machine of many cores; compiling is then timed under load, and memory must hold them all.

    Returns:
      A `Measured` for each side. Those that failed have no seconds of the blocks after.
    """
    with ExitStack() as stack:
        running = []
        for side in sides:
            say(f"{side.name}: building, compiling, {work.warmup_steps} steps to warm up")
            running.append(stack.enter_context(Measuring(side, work)))
            if not together:
                running[-1].wait_until_ready()
        for measuring in running if together else ():
            measuring.wait_until_ready()
        for block in range(work.blocks):
            say(f"block {block + 1} of {work.blocks}")
            for measuring in running:
                measuring.go(work.steps)
        return [measuring.measured for measuring in running]


def matmul_flops(work: Work) -> tuple[float, Measured]:
    """FLOP/s of a large matrix product in the precision of the steps: the best of the blocks."""
    size = MATMUL_SIZE[work.device]
    with Measuring(Side("matmul"), work) as measuring:
        measuring.wait_until_ready()
        for _ in range(5):
            measuring.go(MATMULS[work.device])
    measured = measuring.measured
    if measured.failed:
        return 0.0, measured
    return 2 * size**3 * MATMULS[work.device] / min(measured.seconds), measured
