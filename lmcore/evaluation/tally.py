"""What was scored, as sums: tallies of parts add up to the tally of the whole.

Loss, perplexity and bits per byte are read from the sums at the end; an average of averages over
batches would weigh a token by the batch that it happened to be in.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

from lmcore.errors import InputError


class Tally(NamedTuple):
    """Sums over scored text; the monoid of evaluation, with ``Tally()`` as its zero.

    Attributes:
      nats: negative log-probability of all scored tokens, end-of-text tokens included.
      tokens: scored tokens, end-of-text tokens included.
      bytes: bytes of the raw text, in which an end-of-text token counts 0.
      documents: documents that the text was made of.

    Example:
      >>> Tally(nats=2.0, tokens=3, bytes=8, documents=1).combine(Tally(nats=1.0, tokens=1))
      Tally(nats=3.0, tokens=4, bytes=8, documents=1)
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    documents: int = 0

    def combine(self, other: "Tally") -> "Tally":
        """Return the tally of both texts together."""
        return Tally(
            self.nats + other.nats,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            self.documents + other.documents,
        )

    @property
    def loss(self) -> float:
        """Nats a token."""
        if not self.tokens:
            raise InputError("nothing was scored: the validation set has no documents")
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """See ``perplexity``."""
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """See ``bits_per_byte``."""
        return bits_per_byte(self.nats, self.bytes)


def combine(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of all texts together; of none, the zero.

    Example:
      >>> combine([Tally(nats=1.0, tokens=2), Tally(nats=2.0, tokens=1)])
      Tally(nats=3.0, tokens=3, bytes=0, documents=0)
    """
    return reduce(Tally.combine, tallies, Tally())


def perplexity(loss: float) -> float:
    r"""Return between how many equally likely tokens the model hesitates, on average.

    .. math:: \mathrm{perplexity} = e^{\ell}

    It depends on the tokenizer: compare it between models of one vocabulary only.

    Args:
      loss: :math:`\ell`, nats a token.

    Returns:
      At least 1 for a true loss; infinite where the exponential overflows.

    Example:
      >>> round(perplexity(math.log(8)), 9)
      8.0

    References:
      Jelinek et al., 1977, Perplexity, a measure of the difficulty of speech recognition tasks.
    """
    return math.inf if loss > 709.0 else math.exp(loss)  # e^710 has no float


def bits_per_byte(nats: float, n_bytes: int) -> float:
    r"""Return how many bits the model needs for one byte of text.

    .. math:: \mathrm{bits\ per\ byte} = \frac{\mathrm{nats}}{\ln 2 \cdot \mathrm{bytes}}

    Over the bytes of the raw text, never of decoded text (which replaces invalid UTF-8 by longer
    characters). Models with different tokenizers can be compared by it. The nats of end-of-text
    tokens count while their bytes do not exist: a model has to pay for knowing where a text stops.

    Args:
      nats: negative log-probability of the whole text.
      n_bytes: bytes of the raw text, at least 1.

    Returns:
      Bits a byte; 8 is what plain bytes cost.

    Raises:
      InputError: no bytes.

    Example:
      >>> bits_per_byte(80 * math.log(2), 10)
      8.0

    References:
      Gao et al., 2020, The Pile, section 3.1.
    """
    if n_bytes < 1:
        raise InputError("nothing was scored: the validation set has no text")
    return nats / (math.log(2) * n_bytes)


@dataclass(frozen=True)
class Measurement:
    """One number of a result, with all that a table, a page or a terminal needs to show it.

    Example:
      >>> str(Measurement("validation loss", 1.2345678, "nats/token", "lower"))
      'validation loss 1.2346 nats/token'
    """

    name: str
    """What was measured."""
    value: float
    """How much."""
    unit: str = ""
    """In what; empty for a plain number."""
    better: Literal["lower", "higher", "neither"] = "neither"
    """In which direction it improves."""

    @property
    def text(self) -> str:
        """The value for people: counts in full with separators, shares in per cent, else digits."""
        if self.unit == "%":
            return f"{self.value:.1f}"
        if isinstance(self.value, int):
            return f"{self.value:,}"
        return f"{self.value:,.4f}" if abs(self.value) < 1e6 else f"{self.value:.3e}"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.text, self.unit)))


def measurements(tally: Tally, *, bigram_loss: float | None = None) -> list[Measurement]:
    """Return the results of an evaluation, the most important first.

    Args:
      tally: of the whole validation set.
      bigram_loss: nats a token of a bigram model of the same tokens.

    Raises:
      InputError: nothing was scored.

    Example:
      >>> print(*measurements(Tally(80 * math.log(2), 20, 40, 1))[:3], sep="\\n")
      validation loss 2.7726 nats/token
      perplexity 16.0000
      bits per byte 2.0000 bits/byte
    """
    found = [
        Measurement("validation loss", tally.loss, "nats/token", "lower"),
        Measurement("perplexity", tally.perplexity, "", "lower"),
        Measurement("bits per byte", tally.bits_per_byte, "bits/byte", "lower"),
    ]
    if bigram_loss is not None:
        found.append(Measurement("loss of a bigram model", bigram_loss, "nats/token"))
    return [
        *found,
        Measurement("tokens scored", tally.tokens),
        Measurement("bytes of text", tally.bytes),
        Measurement("documents", tally.documents),
    ]
