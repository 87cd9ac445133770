"""Baselines: what counting gets, so that a model's loss means something.

A model that has learned anything beyond which token follows which is below the bigram's loss.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError

_CHUNK = 1 << 24  # tokens whose pairs are counted at once: 128 MiB each for codes and their sort


class Bigram(NamedTuple):
    """Counts of pairs, and what is read from them; see ``fit_bigram``.

    Attributes:
      pairs: ``a * V + b`` of each pair seen, increasing, int64 ``[P]``.
      counts: how often each was seen, int64 ``[P]``.
      discount: D, taken from each count.
      context_total: c(a), how often each token was followed by another, int64 ``[V]``.
      context_kinds: how many different tokens followed it, int64 ``[V]``.
      unigram: the distribution to fall back on, float64 ``[V]``.
    """

    pairs: NDArray[np.int64]
    counts: NDArray[np.int64]
    discount: float
    context_total: NDArray[np.int64]
    context_kinds: NDArray[np.int64]
    unigram: NDArray[np.float64]


def fit_bigram(tokens: NDArray[np.integer], vocab_size: int) -> Bigram:
    r"""Count the pairs of a stream, smoothed as Kneser and Ney do, interpolated.

    .. math::
       p(b \mid a) &= \frac{\max(c(a, b) - D, 0)}{c(a)} + \frac{D\, N(a\,\cdot)}{c(a)}\, q(b) \\
       q(b) &= \frac{\max(N(\cdot\, b) - D', 0)}{N} + \frac{D' K}{N} \cdot \frac{1}{V}, \qquad
       D = \frac{n_1}{n_1 + 2 n_2}

    :math:`N(a\,\cdot)` is the number of different tokens seen after a, :math:`N(\cdot\, b)` of
    those seen before b, N of different pairs, K of tokens with :math:`N(\cdot\, b) > 0`;
    :math:`n_1` and :math:`n_2` are how many pairs were seen once and twice, and D' is the same with
    :math:`N(\cdot\, b)` for counts (1/2 where nothing was seen once). After a token never seen,
    :math:`p = q`. No probability is zero.

    Args:
      tokens: the training stream, 1-D, any integer dtype, values below ``vocab_size``; a memory map
        is read in pieces.
      vocab_size: V.

    Returns:
      The model.

    Raises:
      InputError: fewer than two tokens.

    Example:
      >>> fit_bigram(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3).pairs.tolist()
      [1, 2, 3]

    References:
      Kneser and Ney, 1995, Improved backing-off for m-gram language modeling; Chen and Goodman,
      1999, An empirical study of smoothing techniques, section 2.7.
    """
    if len(tokens) < 2:
        raise InputError(f"a bigram model needs two tokens or more, not {len(tokens)}")
    pairs, counts = _count_pairs(tokens, vocab_size)
    before, after = np.divmod(pairs, vocab_size)
    kinds_before = np.bincount(after, minlength=vocab_size)  # N(· b)
    discount = _discount(kinds_before)
    kept = np.maximum(kinds_before - discount, 0.0)
    unigram = (kept + (kinds_before.sum() - kept.sum()) / vocab_size) / kinds_before.sum()
    return Bigram(
        pairs,
        counts,
        _discount(counts),
        np.bincount(before, counts, vocab_size).astype(np.int64),
        np.bincount(before, minlength=vocab_size),
        unigram,
    )


def bigram_nats(
    bigram: Bigram, previous: NDArray[np.integer], following: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the negative log-probability of each token given the one before it, in nats.

    Args:
      bigram: from ``fit_bigram``.
      previous: a, integers below V, any shape.
      following: b, of the same shape.

    Returns:
      float64 of the same shape, every value finite.

    Example:
      >>> bigram = fit_bigram(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3)
      >>> np.exp(-bigram_nats(bigram, np.zeros(3, int), np.arange(3))).round(3).tolist()
      [0.044, 0.644, 0.311]
    """
    a, b = (np.asarray(ids).astype(np.int64) for ids in (previous, following))
    codes = a * len(bigram.unigram) + b
    slot = np.minimum(np.searchsorted(bigram.pairs, codes), len(bigram.pairs) - 1)
    count = np.where(bigram.pairs[slot] == codes, bigram.counts[slot], 0)
    total = np.maximum(bigram.context_total[a], 1)
    kept = np.maximum(count - bigram.discount, 0.0) / total
    lent = np.where(
        bigram.context_total[a] > 0, bigram.discount * bigram.context_kinds[a] / total, 1.0
    )
    return -np.log(kept + lent * bigram.unigram[b])


def bigram_loss(
    train_tokens: NDArray[np.integer], valid_tokens: NDArray[np.integer], vocab_size: int
) -> float:
    """Return the loss of a bigram model of the training tokens on the validation tokens.

    The tokens scored are those that ``score_documents`` scores: all but the first of the stream,
    the first of each document after its end-of-text.

    Args:
      train_tokens: the stream to count, 1-D.
      valid_tokens: the stream to score, 1-D.
      vocab_size: V.

    Returns:
      Nats a token.

    Raises:
      InputError: a stream of fewer than two tokens.

    Example:
      >>> round(bigram_loss(np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 0]), 3), 3)
      0.254
    """
    _require_tokens(valid_tokens)
    bigram = fit_bigram(train_tokens, vocab_size)
    return float(bigram_nats(bigram, valid_tokens[:-1], valid_tokens[1:]).mean())


def unigram_loss(
    train_tokens: NDArray[np.integer], valid_tokens: NDArray[np.integer], vocab_size: int
) -> float:
    r"""Return the loss of knowing how frequent each token is, and nothing else.

    .. math:: p(b) = \frac{c(b) + 1}{N + V}

    Args:
      train_tokens: the stream to count, 1-D.
      valid_tokens: the stream to score, 1-D; its first token is not scored, see ``bigram_loss``.
      vocab_size: V.

    Returns:
      Nats a token.

    Raises:
      InputError: a validation stream of fewer than two tokens.

    Example:
      >>> round(unigram_loss(np.array([0, 0, 0, 1]), np.array([0, 0]), 2), 4)
      0.4055
    """
    _require_tokens(valid_tokens)
    counts = np.bincount(train_tokens, minlength=vocab_size) + 1
    return float(-np.log(counts[valid_tokens[1:]] / counts.sum()).mean())


def _require_tokens(valid_tokens: NDArray[np.integer]) -> None:
    """Raise where no token has one before it."""
    if len(valid_tokens) < 2:
        raise InputError("the validation text has no tokens to score: use more text")


def _count_pairs(
    tokens: NDArray[np.integer], vocab_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each neighbouring pair once, holding one chunk and the different pairs in memory."""
    pairs, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(tokens) - 1, _CHUNK):
        chunk = np.asarray(tokens[start : start + _CHUNK + 1]).astype(np.int64)
        new, new_counts = np.unique(chunk[:-1] * vocab_size + chunk[1:], return_counts=True)
        both, index = np.unique(np.concatenate([pairs, new]), return_inverse=True)
        # Counts as float64 weights are exact below 2^53.
        weights = np.concatenate([counts, new_counts])
        pairs, counts = both, np.bincount(index, weights, len(both)).astype(np.int64)
    return pairs, counts


def _discount(counts: NDArray[np.int64]) -> float:
    """Estimate D from the numbers of things seen once and twice (Ney, Essen and Kneser, 1994)."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5
