"""How close a model came to the known entropy of the embedded corpus, and whether it cheated.

Each story's probability under the grammar is known, so the model's bits can be compared with the
grammar's story by story. On the average over all stories no model can be below the grammar. The
difference of the two is far less noisy than either: the stories themselves cancel.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.evaluation.tally import Measurement, Tally, bits_per_byte
from lmcore.synthetic.stories import (
    entropy_bits_per_byte,
    is_story,
    story_agreement,
    story_log2_probability,
)

# So many standard errors below the grammar are no accident: the model has seen the answers.
ALARM_STANDARD_ERRORS = 5.0


class Comparison(NamedTuple):
    """A model against the grammar on the same N stories.

    Attributes:
      nats: what the grammar needs for all stories.
      excess_bits: mean over stories of the model's bits less the grammar's.
      standard_error: of that mean.
    """

    nats: float
    excess_bits: float
    standard_error: float

    @property
    def too_good(self) -> bool:
        """Whether the model is below the floor beyond doubt."""
        return self.excess_bits < -ALARM_STANDARD_ERRORS * self.standard_error


def compare(stories: Sequence[str], model_nats: NDArray[np.float64]) -> Comparison:
    r"""Compare a model's nats with the grammar's, story by story.

    .. math:: \Delta = \frac{1}{N} \sum_i \left( \frac{n_i}{\ln 2} + \log_2 P(s_i) \right)

    Args:
      stories: N texts that the grammar wrote.
      model_nats: ``[N]``, what the model needs for each, its end included (which the grammar
        knows for certain).

    Raises:
      InputError: a text is not a story of the grammar.

    Example:
      >>> from lmcore.synthetic.stories import story
      >>> texts = [story(0, 0), story(0, 1)]
      >>> compare(texts, np.array([100.0, 100.0])).too_good
      False
    """
    bits = -np.array([story_log2_probability(text) for text in stories])
    if not np.isfinite(bits).all():
        bad = int(np.flatnonzero(~np.isfinite(bits))[0])
        raise InputError(
            f"validation document {bad} is no story of the embedded corpus: {stories[bad][:60]!r}; "
            "the floor is known for --corpus.kind stories only"
        )
    excess = model_nats / math.log(2) - bits
    error = float(excess.std(ddof=1) / math.sqrt(len(excess))) if len(excess) > 1 else math.inf
    return Comparison(float(bits.sum()) * math.log(2), float(excess.mean()), error)


def measurements(known: Comparison, tally: Tally) -> list[Measurement]:
    """The rows of the result table that the floor adds."""
    floor = bits_per_byte(known.nats, tally.bytes)
    above = tally.nats / known.nats - 1
    return [
        Measurement("entropy of these stories", floor, "bits/byte"),
        Measurement("entropy of the corpus", entropy_bits_per_byte(), "bits/byte"),
        Measurement("above the floor", 100 * above, "%", "lower"),
        Measurement("excess per story", known.excess_bits, "bits", "lower"),
    ]


def remarks(known: Comparison, tally: Tally) -> list[str]:
    """What the floor says about a result."""
    if known.too_good:
        return [
            f"TOO GOOD TO BE TRUE: {-known.excess_bits:.2f} bits a story below the corpus's "
            f"entropy, {-known.excess_bits / known.standard_error:.0f} standard errors; the model "
            "has seen what it is asked to predict: look for a leak"
        ]
    above = 100 * (tally.nats / known.nats - 1)
    return [
        f"{above:.1f}% above the corpus's entropy, which no model can go below "
        f"({known.excess_bits:.2f} ± {known.standard_error:.2f} bits a story)"
    ]


def describe(text: str) -> str:
    """Whether a text is a story that the grammar could have written.

    Example:
      >>> describe("Once upon a time")
      'not a story of the grammar, after 16 characters'
    """
    if is_story(text):
        return "a story of the grammar"
    return f"not a story of the grammar, after {story_agreement(text)} characters"
