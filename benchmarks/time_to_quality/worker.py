"""One run in a process of its own: ``python -m benchmarks.time_to_quality.worker JSON``.

The clock runs while batches are made and steps are taken. How many steps fit the time is asked of a
trial run, thrown away, because the schedule must know its end. A twentieth of the time it takes: a
plain script's first hundred steps are a fifth slower than the others.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from benchmarks.time_to_quality.sides import Attempt, Result, from_json
from flows.trainer.lifeline import die_with_parent, keep_freed_memory

TRIAL_SHARE = 0.05
LEAST_STEPS = 12


def main() -> None:
    die_with_parent()
    attempt = from_json(json.loads(sys.argv[1]))
    if attempt.side.who == "lmcore":
        keep_freed_memory()  # as our command does; a plain script leaves malloc alone
    import torch

    torch.set_num_threads(attempt.threads)
    print(json.dumps(asdict(run(attempt))))


def run(attempt: Attempt) -> Result:
    """Train for the time, and score both parts of the validation text."""
    from benchmarks.machine import facts
    from benchmarks.time_to_quality.runners import runner
    from benchmarks.time_to_quality.texts import read_streams

    streams = read_streams(Path(attempt.streams))
    trial = runner(with_steps(attempt, 1_000_000), streams)
    seconds: list[float] = []
    while len(seconds) < LEAST_STEPS or sum(seconds) < TRIAL_SHARE * attempt.seconds:
        seconds.append(timed(trial.step))
    steps = max(1, round(attempt.seconds / mean(seconds[len(seconds) // 2 :])))
    learner = runner(with_steps(attempt, steps), streams)
    began = time.perf_counter()
    for _ in range(steps):
        learner.step()
    took = time.perf_counter() - began
    seen = steps * attempt.side.training.batch_size * attempt.side.model.context_length
    return Result(
        steps=steps,
        seconds=took,
        epochs=seen / len(streams["train"].tokens),
        tune=learner.score(streams["tune"]),
        report=learner.score(streams["report"]),
        facts=facts("cpu"),
    )


def with_steps(attempt: Attempt, steps: int) -> Attempt:
    """The run with its number of steps, on which the schedule depends."""
    side = attempt.side
    tokens = steps * side.training.batch_size * side.model.context_length
    warmup = min(side.training.warmup_steps, steps)
    training = replace(
        side.training, tokens=tokens, warmup_steps=warmup, seed=attempt.seed, validate_every=0
    )
    return replace(attempt, side=replace(side, training=training))


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
