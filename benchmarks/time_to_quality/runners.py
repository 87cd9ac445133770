"""From a side to something that steps and can be scored."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.time_to_quality.sides import Attempt
from benchmarks.time_to_quality.texts import Stream
from benchmarks.training.module_gpt import NanoGPT, module_stepper
from flows.trainer.distributed import World
from flows.trainer.job import Job
from flows.trainer.loop import make_step
from flows.trainer.numerics import Numerics, resolve
from flows.trainer.reproducible import pin
from lmcore.data.batch import batch_at
from lmcore.data.windows import window_starts
from lmcore.evaluation.documents import document_windows
from lmcore.evaluation.scoring import (
    document_tallies,
    row_nats,
    score_documents,
    score_windows,
)
from lmcore.evaluation.tally import combine
from lmcore.training.step import init_state

SCORED_AT_ONCE = 8_192  # tokens


class Runner(NamedTuple):
    """A model at work.

    Attributes:
      step: makes a batch and takes a step.
      score: bits a byte of a part.
    """

    step: Callable[[], None]
    score: Callable[[Stream], float]


def runner(attempt: Attempt, streams: Mapping[str, Stream]) -> Runner:
    """The side, its first step not yet taken."""
    make = ours if attempt.side.who == "lmcore" else recipe
    return make(attempt, streams["train"])


def ours(attempt: Attempt, train: Stream) -> Runner:
    """The step that our runs take on a CPU, eager."""
    model, training = attempt.side.model, attempt.side.training
    asked = Numerics(device="cpu", compile="off", threads=attempt.threads)
    numerics = resolve(asked, device="cpu", total_flops=0.0, micro_batch=training.batch_size)
    pin(numerics)
    take_step = make_step(Job("pretrain", model, training, numerics), World())
    starts = window_starts(train.offsets, model.context_length, training.layout)
    state, made = init_state(model, training), 0

    def step() -> None:
        nonlocal state, made
        arrays = batch_at(
            train.tokens, starts, model.context_length, training.batch_size, training.seed, made
        )
        inputs, targets = map(torch.from_numpy, arrays)
        state, _ = take_step(state, (inputs, targets))
        made += 1

    def score(part: Stream) -> float:
        tallies = score_documents(
            state.params, model, *part[:2], part.n_bytes, max_tokens=SCORED_AT_ONCE
        )
        return combine(tallies).bits_per_byte

    return Runner(step, score)


def recipe(attempt: Attempt, train: Stream) -> Runner:
    """nanoGPT's model and loop, as a plain script."""
    model, training = attempt.side.model, attempt.side.training
    torch.manual_seed(training.seed)
    module = NanoGPT(model)
    take_step = module_stepper(module, training, model.context_length)
    feed = anywhere(train.tokens, training.batch_size, model.context_length)

    def step() -> None:
        take_step(*next(feed))

    return Runner(step, lambda part: score_module(module, part, model.context_length))


def anywhere(tokens: np.ndarray, batch_size: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of windows that begin at random places, one after the other."""
    while True:
        starts = torch.randint(len(tokens) - length, (batch_size,))
        inputs, targets = (
            torch.stack(
                [torch.from_numpy(tokens[s + k : s + k + length].astype(np.int64)) for s in starts]
            )
            for k in (0, 1)
        )
        yield inputs, targets


@torch.no_grad()
def score_module(module: NanoGPT, part: Stream, context_length: int) -> float:
    """Bits a byte by the windows of `lmcore.evaluation`."""
    windows = document_windows(part.offsets, context_length)

    def score(ids: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
        return row_nats(module.logits(ids), targets, scored)

    nats = score_windows(score, part.tokens, windows, max_tokens=SCORED_AT_ONCE)
    return combine(document_tallies(windows, nats, part.n_bytes)).bits_per_byte
