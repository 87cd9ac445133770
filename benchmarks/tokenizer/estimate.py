"""From measured rates to the time and memory of a text that is not here: arithmetic alone."""

from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Target:
    """A text of the assignment, and what the handout allows for training on it."""

    name: str
    n_bytes: float
    vocab_size: int
    limit_seconds: float
    limit_bytes: float


TARGETS = (
    Target("TinyStories", 2.2e9, 10_000, 30 * 60, 30e9),
    Target("OpenWebText", 12e9, 32_000, 12 * 3_600, 100e9),
)


class PowerLaw(NamedTuple):
    r"""y = factor x^exponent."""

    factor: float
    exponent: float

    def __call__(self, x: float) -> float:
        return self.factor * x**self.exponent


def power_law(x: list[float], y: list[float]) -> PowerLaw:
    """The power law that fits positive numbers best: a line through their logarithms.

    Example:
      >>> law = power_law([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
      >>> round(law(1_000.0), 6)
      2000.0
    """
    exponent, offset = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(exp(float(offset)), float(exponent))


def slope(x: list[float], y: list[float]) -> float:
    """Of the line that fits best, or 0 where that falls.

    Example:
      >>> round(slope([1.0, 2.0, 3.0], [5.0, 7.0, 9.0]), 6)
      2.0
    """
    return max(float(np.polyfit(x, y, 1)[0]), 0.0)


@dataclass(frozen=True)
class Measured:
    """What an estimate rests on, all of one engine.

    count_rate, encode_rate: bytes a second on the largest text, by the number of workers.
    n_words: the distinct words of that text.
    train_bytes: the peak of memory there.
    words: distinct words by bytes of text (Heaps' law), from beginnings of a text without repeats.
    merge_per_word: seconds for each distinct word, for the vocabulary of the target.
    bytes_per_word: how much more memory training takes for each distinct word.
    """

    count_rate: dict[int, float]
    encode_rate: dict[int, float]
    n_words: float
    train_bytes: float
    words: PowerLaw
    merge_per_word: float
    bytes_per_word: float


class Estimate(NamedTuple):
    """Seconds, bytes of memory for training, and the distinct words that they suppose.

    merge_seconds: the part of training that is done on one core.
    train_seconds, encode_seconds: by the number of workers.
    """

    n_words: float
    merge_seconds: float
    train_bytes: float
    train_seconds: dict[int, float]
    encode_seconds: dict[int, float]


FORMULA = """\
words           = {words.factor:.3g} bytes^{words.exponent:.3f}
counting        = bytes / {count_rates} s
merging         = {merge_per_word:.3g} words s
training memory = {train_bytes:.3g} + {bytes_per_word:.3g} (words - {n_words:.3g}) bytes
encoding        = bytes / {encode_rates} s"""


def formula(measured: Measured) -> str:
    """The arithmetic of `estimate`, with its numbers."""
    rates = {
        name: ", ".join(f"{rate:.3g} ({n} at once)" for n, rate in by_workers.items())
        for name, by_workers in (
            ("count_rates", measured.count_rate),
            ("encode_rates", measured.encode_rate),
        )
    }
    return FORMULA.format(**vars(measured), **rates)


def estimate(measured: Measured, target: Target) -> Estimate:
    """What the target would take, by `FORMULA`."""
    n_words, n_bytes = measured.words(target.n_bytes), target.n_bytes
    more_words = max(n_words - measured.n_words, 0.0)
    merge_seconds = measured.merge_per_word * n_words
    return Estimate(
        n_words,
        merge_seconds,
        measured.train_bytes + measured.bytes_per_word * more_words,
        {n: n_bytes / rate + merge_seconds for n, rate in measured.count_rate.items()},
        {n: n_bytes / rate for n, rate in measured.encode_rate.items()},
    )
