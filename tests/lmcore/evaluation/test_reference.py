"""The baselines: true distributions, and losses known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.evaluation import reference
from lmcore.evaluation.reference import bigram_loss, bigram_nats, fit_bigram, unigram_loss

STREAMS = st.lists(st.integers(0, 5), min_size=2, max_size=60)


@settings(deadline=None, max_examples=200)
@given(stream=STREAMS, vocab_size=st.integers(6, 9))
def test_is_a_distribution_after_every_token(stream, vocab_size):
    """After any token, seen or not, every next token is possible, and probabilities add to 1."""
    bigram = fit_bigram(np.array(stream), vocab_size)
    previous, following = np.divmod(np.arange(vocab_size**2), vocab_size)
    probabilities = np.exp(-bigram_nats(bigram, previous, following)).reshape(vocab_size, -1)
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)


def test_known_probabilities():
    """By hand: pairs 01, 10 twice and 02 once give D = 1/5, D' = 1 and a uniform q."""
    bigram = fit_bigram(np.array([0, 1, 0, 1, 0, 2]), 3)
    after_zero = np.exp(-bigram_nats(bigram, np.zeros(3, int), np.arange(3)))
    lent = 0.2 * 2 / 3 / 3
    assert after_zero.tolist() == pytest.approx([lent, 1.8 / 3 + lent, 0.8 / 3 + lent])
    assert np.exp(-bigram_nats(bigram, np.array(2), np.array(1))) == pytest.approx(1 / 3)


def test_chunks_count_as_one(monkeypatch):
    """Counting in chunks of three tokens gives the same pairs, none lost at the borders."""
    stream = np.random.default_rng(0).integers(0, 5, 100).astype(np.uint16)
    whole = fit_bigram(stream, 5)
    monkeypatch.setattr(reference, "_CHUNK", 3)
    for left, right in zip(whole, fit_bigram(stream, 5), strict=True):
        np.testing.assert_array_equal(left, right)
    assert whole.counts.sum() == 99


def test_wide_vocabularies_do_not_wrap():
    """uint32 tokens of a vocabulary of 70,000 make pair codes beyond 32 bits."""
    stream = np.array([69_999, 69_998, 69_999, 1], dtype=np.uint32)
    assert fit_bigram(stream, 70_000).pairs.max() == 69_999 * 70_000 + 69_998


def test_recovers_a_markov_chain():
    """On plenty of a chain's own text the bigram loss is the chain's entropy, the unigram's above.

    A token is followed by itself with probability 3/4 among two: entropy 0.5623 nats, while each
    alone is a coin.
    """
    generator = np.random.default_rng(0)
    stays = generator.random(40_000) < 0.75
    stream = np.cumsum(~stays) % 2
    train, valid = stream[:30_000], stream[30_000:]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    # the standard error over 10,000 tokens is sqrt(3)/4 · log 3 / 100 = 0.005
    assert bigram_loss(train, valid, 2) == pytest.approx(entropy, abs=0.015)
    assert unigram_loss(train, valid, 2) == pytest.approx(math.log(2), abs=0.01)


def test_too_little_text_is_refused():
    """Fewer than two tokens hold no pair."""
    good, short = np.array([0, 1, 0]), np.array([0])
    for loss in (bigram_loss, unigram_loss):
        with pytest.raises(InputError, match="no tokens to score"):
            loss(good, short, 2)
    with pytest.raises(InputError, match="two tokens"):
        bigram_loss(short, good, 2)
