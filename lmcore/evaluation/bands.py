r"""Published results to hold a run against: in which band it falls, and when it is too good.

A band is a perplexity that others give for a corpus and a size of model. Perplexity depends on the
tokenizer, so a band whose vocabulary nobody states is a rough guide, and the alarm for results that
are too good is in bits per byte instead. Of a corpus that is not in the table nothing is said.
"""

import math
from typing import Literal, NamedTuple

from lmcore.evaluation.tally import perplexity

Corpus = Literal["tinystories", "openwebtext"]
Place = Literal["too good", "better", "inside", "worse"]

ABOUT = 0.10
"""How far from "about 20" is still about 20: a tenth, 18 to 22. Neighbouring bands stay apart."""
SIZE_FACTOR = 2.0
"""A band is for models from half to twice its parameters outside the embeddings."""
SAME = 0.05
"""A band of one certain run is for runs that have its parameters and tokens within a twentieth."""
BYTES_PER_TOKEN = 5.0
"""Bytes in a token, generously: real vocabularies of 32,000 to 50,257 have 4 to 4.5 on these texts.
It turns a published loss into bits per byte that are certainly below what its model really had."""
NAMES: dict[Corpus, str] = {"tinystories": "TinyStories", "openwebtext": "OpenWebText"}


class Band(NamedTuple):
    """A result to hold a run against.

    Attributes:
      corpus: which text.
      n_params: parameters outside the embeddings.
      perplexity: what is reached there, in the middle of the band.
      minutes: how long that takes, in words.
      larger_loss: nats a token of a published model that is larger, see ``too_good_below``.
      at_most: whether the perplexity is a limit to stay below, and not "about".
      vocab_size: of the tokenizer; 0 where nobody states it.
      n_tokens: trained on; 0 where nobody states it.
    """

    corpus: Corpus
    n_params: float
    perplexity: float
    minutes: str
    larger_loss: float
    at_most: bool = False
    vocab_size: int = 0
    n_tokens: int = 0

    @property
    def low(self) -> float:
        """The least perplexity inside; of a limit, 1, which is certainty."""
        return 1.0 if self.at_most else self.perplexity * (1 - ABOUT)

    @property
    def high(self) -> float:
        """The greatest perplexity inside."""
        return self.perplexity if self.at_most else self.perplexity * (1 + ABOUT)

    @property
    def too_good_below(self) -> float:
        r"""Bits per byte that no model of this size reaches honestly.

        .. math:: \frac{\text{loss of a larger published model}}{\ln 2 \cdot 5}
        """
        return self.larger_loss / (math.log(2) * BYTES_PER_TOKEN)


class Verdict(NamedTuple):
    """Where a run lies: its band, and on which side of it.

    Example:
      >>> verdicts("tinystories", n_params=1e6, loss=3.2, bits_per_byte=1.1)[0].place
      'inside'
    """

    band: Band
    place: Place


# Losses of larger models on TinyStories are those of llama2.c's README for its models of 15M, 42M
# and 110M parameters (6M, 25M and 85M outside the embeddings; a vocabulary of 32,000 and another
# split of the text, hence the generous bytes a token); on OpenWebText, of GPT-2 (124M) trained on
# it, from nanoGPT's README.
BANDS: tuple[Band, ...] = (
    Band("tinystories", 1e6, 25.0, "about 10 min on one or two GPUs", 1.072),
    Band("tinystories", 10e6, 20.0, "about 30 min on one or two GPUs", 0.847),
    Band("tinystories", 50e6, 15.0, "about 2 h on one or two GPUs", 0.760),
    Band("openwebtext", 1e6, 35.0, "about 20 min on one or two GPUs", 2.85),
    Band("openwebtext", 10e6, 28.0, "about 1 h on one or two GPUs", 2.85),
    # Stanford CS336, 2025, assignment 1, section 7.2: its base model, and its low-resource setting.
    Band(
        "tinystories",
        12_456_448,
        math.exp(1.45),
        "30 to 40 min on an H100",
        0.847,
        at_most=True,
        vocab_size=10_000,
        n_tokens=327_680_000,
    ),
    Band(
        "tinystories",
        12_456_448,
        math.exp(2.00),
        "82 min on an M3 Max's CPU, which reached 1.80",
        0.847,
        at_most=True,
        vocab_size=10_000,
        n_tokens=40_960_000,
    ),
)


def bands_for(corpus: str, n_params: float, vocab_size: int = 0, n_tokens: int = 0) -> list[Band]:
    """Return the bands that are about such a run.

    Args:
      corpus: a `Corpus`; of any other name there are none.
      n_params: parameters outside the embeddings.
      vocab_size: of the run's tokenizer; read by bands that state theirs.
      n_tokens: trained on; read by bands that state theirs.

    Returns:
      At most one that is "about", and at most one of a certain run; often none.

    Example:
      >>> [band.perplexity for band in bands_for("tinystories", 12e6)]
      [20.0]
      >>> bands_for("novels", 12e6)
      []
    """
    return [
        band
        for band in BANDS
        if band.corpus == corpus
        and (
            _is_of_size(band, n_params)
            if not band.at_most
            else _is_that_run(band, n_params, vocab_size, n_tokens)
        )
    ]


def verdicts(
    corpus: str,
    *,
    n_params: float,
    loss: float,
    bits_per_byte: float,
    vocab_size: int = 0,
    n_tokens: int = 0,
) -> list[Verdict]:
    r"""Return where a run lies in each band that is about it.

    .. math:: \text{inside} \iff \mathrm{low} \le e^\mathrm{loss} \le \mathrm{high}

    Args:
      corpus: which text the run learned and is measured on, as in ``bands_for``.
      n_params: parameters outside the embeddings.
      loss: nats a token on the validation text.
      bits_per_byte: of the same text; below ``Band.too_good_below`` nothing else matters.
      vocab_size: of the run's tokenizer.
      n_tokens: trained on.

    Returns:
      A verdict a band; none where no band is about the run.

    Example:
      >>> found = verdicts("tinystories", n_params=10e6, loss=3.0, bits_per_byte=0.2)
      >>> [verdict.place for verdict in found]
      ['too good']
    """
    return [
        Verdict(band, _place(band, perplexity(loss), bits_per_byte))
        for band in bands_for(corpus, n_params, vocab_size, n_tokens)
    ]


def remarks(
    corpus: str,
    *,
    n_params: float,
    loss: float,
    bits_per_byte: float,
    vocab_size: int,
    n_tokens: int = 0,
) -> list[str]:
    """Return the verdicts as sentences, for whoever reads the result.

    Args:
      corpus: and what follows, as in ``verdicts``.

    Returns:
      A sentence a band, the alarm first where there is one.

    Example:
      >>> result = {"n_params": 11e6, "loss": 3.3, "bits_per_byte": 1.1, "vocab_size": 32_000}
      >>> print(remarks("openwebtext", **result)[0].split(" (")[0])
      OpenWebText, 10M parameters: perplexity 25.2 to 30.8
    """
    found = verdicts(
        corpus,
        n_params=n_params,
        loss=loss,
        bits_per_byte=bits_per_byte,
        vocab_size=vocab_size,
        n_tokens=n_tokens,
    )
    alarms = [_alarm(one.band, bits_per_byte) for one in found if one.place == "too good"]
    places = [_sentence(one, perplexity(loss), bits_per_byte, vocab_size) for one in found]
    return [*alarms[:1], *places]


def _is_of_size(band: Band, n_params: float) -> bool:
    """Whether a model is of about the band's size."""
    return band.n_params / SIZE_FACTOR <= n_params <= band.n_params * SIZE_FACTOR


def _is_that_run(band: Band, n_params: float, vocab_size: int, n_tokens: int) -> bool:
    """Whether a run is the one that the band is of."""
    return (
        vocab_size == band.vocab_size
        and abs(n_params / band.n_params - 1) <= SAME
        and abs(n_tokens / band.n_tokens - 1) <= SAME
    )


def _place(band: Band, value: float, bits_per_byte: float) -> Place:
    """Where a perplexity lies."""
    if bits_per_byte < band.too_good_below:
        return "too good"
    if value > band.high:
        return "worse"
    return "inside" if value >= band.low else "better"


def _alarm(band: Band, bits_per_byte: float) -> str:
    """The sentence that nobody may overlook."""
    return (
        f"TOO GOOD TO BE TRUE: {bits_per_byte:.4f} bits per byte on {NAMES[band.corpus]}; larger "
        f"published models need more than {band.too_good_below:.4f}: look for validation text in "
        "the training text, or a leak of the future"
    )


def _sentence(verdict: Verdict, value: float, bits_per_byte: float, vocab_size: int) -> str:
    """A band and where the run lies in it."""
    band, place = verdict
    if band.at_most:
        name = f"{NAMES[band.corpus]}, CS336's run of {band.n_tokens:,} tokens"
        range_ = f"loss {math.log(band.high):.2f} or less, perplexity {band.high:.2f}"
    else:
        name = f"{NAMES[band.corpus]}, {band.n_params / 1e6:.0f}M parameters"
        range_ = f"perplexity {band.low:.1f} to {band.high:.1f}"
    vocabulary = f"vocabulary {band.vocab_size:,}" if band.vocab_size else "vocabulary not stated"
    return (
        f"{name}: {range_} ({vocabulary}, {band.minutes}); this run: {value:.1f}, "
        f"{place} (vocabulary {vocab_size:,}, {bits_per_byte:.4f} bits per byte)"
    )
