"""Tallies add up, and the measures read from them mean what they say."""

import math

import pytest
from hypothesis import given, strategies as st

from lmcore.errors import InputError
from lmcore.evaluation.tally import (
    Measurement,
    Tally,
    bits_per_byte,
    combine,
    measurements,
    perplexity,
)

# Nats in quarters add exactly, so that the laws hold to the last bit.
TALLIES = st.builds(
    Tally,
    st.integers(0, 10**6).map(lambda quarters: quarters / 4),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
)


@given(TALLIES, TALLIES, TALLIES)
def test_is_a_monoid(a, b, c):
    """Combining is associative and commutative, and the empty tally changes nothing."""
    assert a.combine(b).combine(c) == a.combine(b.combine(c))
    assert a.combine(b) == b.combine(a)
    assert a.combine(Tally()) == Tally().combine(a) == a
    assert combine([a, b, c]) == a.combine(b).combine(c)
    assert combine([]) == Tally()


def test_known_measures():
    """Eight equally likely tokens of one byte each: ln 8 nats, perplexity 8, 3 bits a byte."""
    tally = Tally(nats=10 * math.log(8), tokens=10, bytes=10, documents=1)
    assert tally.loss == pytest.approx(math.log(8), rel=1e-15)
    assert tally.perplexity == pytest.approx(8, rel=1e-14)
    assert tally.bits_per_byte == pytest.approx(3, rel=1e-15)
    assert bits_per_byte(tally.nats, 20) == pytest.approx(1.5, rel=1e-15)


def test_measures_weigh_tokens_not_parts():
    """The loss of two parts together is not the mean of their losses."""
    whole = combine([Tally(1.0, 1, 1, 1), Tally(9.0, 3, 4, 1)])
    assert whole.loss == 2.5
    assert whole.bits_per_byte == pytest.approx(2 / math.log(2))


def test_an_absurd_loss_has_infinite_perplexity():
    """A loss whose exponential overflows is reported, not raised; one that is NaN stays so."""
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_nothing_scored_is_an_error():
    """Zero tokens or bytes have no loss: the error says that nothing was scored."""
    for measure in ("loss", "perplexity", "bits_per_byte"):
        with pytest.raises(InputError, match="nothing was scored"):
            getattr(Tally(), measure)


def test_measurements_render():
    """Every measurement shows its name, a readable value and its unit, and which way is better."""
    tally = Tally(nats=1000 * math.log(2), tokens=1_234_567, bytes=500, documents=3)
    found = {m.name: m for m in measurements(tally, bigram_loss=0.5)}
    assert str(found["bits per byte"]) == "bits per byte 2.0000 bits/byte"
    assert str(found["tokens scored"]) == "tokens scored 1,234,567"
    assert Measurement("share", 25.04, "%").text == "25.0"
    assert found["loss of a bigram model"].value == 0.5
    assert {m.better for m in found.values()} == {"lower", "neither"}
    assert Measurement("rate", 2.5e7, "FLOP/s", "higher").text == "2.500e+07"
    assert len(measurements(tally)) == len(found) - 1
