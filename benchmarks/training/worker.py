"""A measuring process: builds one side, warms up, then steps when it is told to.

Told by lines on its standard input: ``go N`` makes N steps; the end of input ends it. It answers
with one JSON object a line on what was its standard output; whatever else prints goes to standard
error.
"""

import json
import os
import sys
import time
from typing import Any

from benchmarks.training.sides import Side, Work, from_json
from flows.trainer.lifeline import die_with_parent, keep_freed_memory
from lmcore.errors import InputError


def main() -> None:
    die_with_parent()
    side, work = from_json(json.loads(sys.argv[1]))
    if not side.plain:
        keep_freed_memory()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    stepper, ready = prepare(side, work)
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        print(json.dumps(go(stepper, work, int(line.removeprefix("go ")))), file=answers)


def prepare(side: Side, work: Work) -> tuple[Any, dict[str, Any]]:
    """Build and warm up; what the parent wants to know before it starts the clock."""
    from benchmarks.machine import facts
    from benchmarks.training.memory import forget_peak, release
    from benchmarks.training.steppers import build

    stepper = build(side, work)
    first, warmup_seconds = timed(stepper, work.device, 1)
    last, more_seconds = timed(stepper, work.device, work.warmup_steps - 1)
    release(work.device)
    forget_peak(work.device)
    return stepper, {
        "n_params": stepper.n_params,
        "first": first,
        "warmed": last or first,
        "warmup_seconds": warmup_seconds + more_seconds,
        "facts": facts(work.device),
    }


def go(stepper: Any, work: Work, steps: int) -> dict[str, Any]:
    """Make the steps and tell how long they took."""
    from benchmarks.training.memory import peak_memory_bytes, release, reserved_bytes

    timed(stepper, work.device, work.lead_in)
    last, seconds = timed(stepper, work.device, steps)
    answer = {
        "seconds": seconds,
        "last": last,
        "memory_bytes": peak_memory_bytes(work.device),
        "reserved_bytes": reserved_bytes(work.device),
    }
    release(work.device)
    return answer


def timed(stepper: Any, device: str, steps: int) -> tuple[dict[str, float], float]:
    """The last step's loss and gradient norm, and seconds until the device had finished it."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    outcome = None
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        outcome = stepper.step()
    wait()
    seconds = time.perf_counter() - began
    return {k: float(v) for k, v in outcome._asdict().items()} if outcome else {}, seconds


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
