"""Training steps of one model at two sizes of the vocabulary, in turns.

Eager, in float32, on one thread, so that processor time is the time of the work: it does not grow
while another program has the core. A ratio is taken block by block.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch

from benchmarks.vocabulary.trained import ids_of
from flows.presets import PRESETS
from lmcore import Tokenizer, TrainingConfig, init_state, train_step
from lmcore.model.positions import model_rotary_tables
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value

MODEL = "tinystories"
BATCH_SIZE = 4


@dataclass(frozen=True)
class Speed:
    """Steps of one size of the vocabulary.

    seconds: processor seconds a step, block by block.
    bytes_per_step: of text.
    """

    vocab_size: int
    seconds: list[float]
    bytes_per_step: float

    @property
    def steps_per_second(self) -> float:
        """Of the median block."""
        return 1 / median(self.seconds)

    @property
    def bytes_per_second(self) -> float:
        """Of the median block."""
        return self.bytes_per_step * self.steps_per_second


def in_turns(
    tokenizers: list[Tokenizer], text: str, *, blocks: int, steps: int, warmup: int = 1
) -> list[Speed]:
    """Time ``blocks`` blocks of ``steps`` steps of each vocabulary, A B A B …, after a warm-up.

    Args:
      tokenizers: each gets a model of its vocabulary, otherwise equal.
      text: what the models read; the windows of both begin at places drawn alike.
      blocks, steps: how often the turns go round, and the steps of a turn.
      warmup: steps of each before.
    """
    made = [stepper(tokenizer, text) for tokenizer in tokenizers]
    seconds: list[list[float]] = [[] for _ in made]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for step in made:
        timed(step, warmup)
    for _ in range(blocks):
        for step, found in zip(made, seconds, strict=True):
            found.append(timed(step, steps))
    torch.set_num_threads(threads)
    length = PRESETS[MODEL].model.context_length
    return [
        Speed(
            tokenizer.vocab_size,
            found,
            BATCH_SIZE * length * len(text.encode()) / len(ids_of(tokenizer, text)),
        )
        for tokenizer, found in zip(tokenizers, seconds, strict=True)
    ]


def timed(step: Callable[[], None], n: int) -> float:
    """Processor seconds a step."""
    began = time.process_time()
    for _ in range(n):
        step()
    return (time.process_time() - began) / n


def stepper(tokenizer: Tokenizer, text: str) -> Callable[[], None]:
    """A model of that vocabulary, and the function that makes its next step on ``text``."""
    model = replace(PRESETS[MODEL].model, vocab_size=tokenizer.vocab_size)
    training = TrainingConfig(batch_size=BATCH_SIZE, precision="float32")
    ids = torch.from_numpy(ids_of(tokenizer, text).astype(np.int64))
    state = init_state(model, training)
    step = partial(
        train_step,
        model=model,
        training=training,
        rotary=model_rotary_tables(model),
        loss_and_gradients=partial(loss_and_gradients, differentiate=grad_and_value),
        in_place=True,
    )
    generator = torch.Generator().manual_seed(0)
    length = model.context_length

    def take_step() -> None:
        nonlocal state
        starts = torch.randint(len(ids) - length, (BATCH_SIZE,), generator=generator)
        rows = torch.stack([ids[start : start + length + 1] for start in starts.tolist()])
        state, _ = step(state, (rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))

    return take_step
