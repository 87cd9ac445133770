"""In which band a run falls, at every edge; and where nothing may be said."""

import doctest
import math
from typing import Any

import pytest

from lmcore.evaluation import bands
from lmcore.evaluation.bands import BANDS, Band, bands_for, remarks, verdicts

ROUGH = [band for band in BANDS if not band.at_most]
CERTAIN = [band for band in BANDS if band.at_most]
HONEST = 2.0  # bits per byte, above every alarm
STEP = 1e-9


def named(band: Band) -> str:
    return f"{band.corpus}-{band.perplexity:.1f}"


def place(band: Band, perplexity: float, bits_per_byte: float = HONEST) -> str:
    """Where a run exactly of the band's kind lies in it."""
    found = verdicts(
        band.corpus,
        n_params=band.n_params,
        loss=math.log(perplexity),
        bits_per_byte=bits_per_byte,
        vocab_size=band.vocab_size,
        n_tokens=band.n_tokens,
    )
    return {verdict.band: verdict.place for verdict in found}[band]


def test_table_is_the_published_one() -> None:
    """Corpus, parameters and perplexity of each band, as they were stated."""
    stated = [(band.corpus, band.n_params / 1e6, band.perplexity) for band in ROUGH]
    assert stated == [
        ("tinystories", 1, 25),
        ("tinystories", 10, 20),
        ("tinystories", 50, 15),
        ("openwebtext", 1, 35),
        ("openwebtext", 10, 28),
    ]
    limits = [(round(math.log(band.high), 9), band.n_tokens) for band in CERTAIN]
    assert limits == [(1.45, 327_680_000), (2.0, 40_960_000)]


@pytest.mark.parametrize("band", ROUGH, ids=named)
def test_edges_of_about(band: Band) -> None:
    """ "About" is a tenth to either side; on the edge is inside, just beyond it is not."""
    low, high = 0.9 * band.perplexity, 1.1 * band.perplexity
    assert place(band, low * (1 - STEP)) == "better"
    assert place(band, low * (1 + STEP)) == "inside"
    assert place(band, high * (1 - STEP)) == "inside"
    assert place(band, high * (1 + STEP)) == "worse"


@pytest.mark.parametrize("band", CERTAIN, ids=named)
def test_limit_has_one_edge(band: Band) -> None:
    """A loss of the limit or less is inside, however small; more is worse."""
    assert place(band, band.perplexity * (1 + STEP)) == "worse"
    assert place(band, band.perplexity * (1 - STEP)) == "inside"
    assert place(band, 1.0) == "inside"


@pytest.mark.parametrize("band", BANDS, ids=named)
def test_edge_of_too_good(band: Band) -> None:
    """Below the alarm's bits per byte no perplexity is believed; on it every one is."""
    line = band.larger_loss / math.log(2) / 5
    for perplexity in (1.5, band.perplexity, 100.0):
        assert place(band, perplexity, line * (1 - STEP)) == "too good"
        assert place(band, perplexity, line * (1 + STEP)) != "too good"


@pytest.mark.parametrize("band", ROUGH, ids=named)
def test_edges_of_size(band: Band) -> None:
    """A band is for half to twice its parameters."""
    for factor, inside in ((0.499, False), (0.5, True), (2.0, True), (2.001, False)):
        found = bands_for(band.corpus, band.n_params * factor)
        assert (band in found) == inside


@pytest.mark.parametrize("band", CERTAIN, ids=named)
def test_certain_run_is_told_by_all_that_it_states(band: Band) -> None:
    """Its vocabulary exactly, its parameters and tokens within a twentieth."""
    same: dict[str, Any] = {
        "n_params": band.n_params, "vocab_size": 10_000, "n_tokens": band.n_tokens
    }  # fmt: skip
    assert band in bands_for("tinystories", **same)
    for field in ("n_params", "n_tokens"):
        for factor, inside in ((0.949, False), (0.951, True), (1.049, True), (1.051, False)):
            found = bands_for("tinystories", **same | {field: same[field] * factor})
            assert (band in found) == inside, (field, factor)
    assert band not in bands_for("tinystories", **same | {"vocab_size": 10_001})
    assert band not in bands_for("openwebtext", **same)


def test_bands_of_a_corpus_are_apart() -> None:
    """No size is in two rough bands, and no perplexity of one corpus either."""
    for band in ROUGH:
        for other in ROUGH:
            if band.corpus == other.corpus and band.n_params < other.n_params:
                assert 2 * band.n_params < other.n_params / 2
                assert other.high < band.low


@pytest.mark.parametrize("corpus", ["", "stories", "novels", "TinyStories"])
def test_nothing_is_said_of_other_corpora(corpus: str) -> None:
    """Without a table for the corpus there is no verdict, and no alarm."""
    result: dict[str, Any] = {"n_params": 1e6, "loss": 0.1, "bits_per_byte": 0.01}
    assert verdicts(corpus, **result) == []
    assert remarks(corpus, **result, vocab_size=10_000) == []


def test_nothing_is_said_of_other_sizes() -> None:
    """Between the bands, below and above them there is none."""
    for millions in (0.4, 3, 22, 120):
        assert bands_for("tinystories", millions * 1e6, 10_000, 327_680_000) == []
    assert bands_for("openwebtext", 50e6) == []


def test_assignments_own_loss_raises_no_alarm() -> None:
    """1.45 nats at 4.1 bytes a token is far below "about 20", and honest."""
    bits = 1.45 / math.log(2) / 4.1
    found = verdicts("tinystories", n_params=12_456_448, loss=1.45, bits_per_byte=bits,
                     vocab_size=10_000, n_tokens=327_680_000)  # fmt: skip
    assert [verdict.place for verdict in found] == ["better", "inside"]


def test_alarm_comes_first_and_once() -> None:
    """However many bands a run has, one alarm, before the sentences."""
    said = remarks("tinystories", n_params=12_456_448, loss=0.2, bits_per_byte=0.07,
                   vocab_size=10_000, n_tokens=40_960_000)  # fmt: skip
    assert len(said) == 3
    assert ["TOO GOOD TO BE TRUE" in line for line in said] == [True, False, False]


def test_sentence_names_both_vocabularies() -> None:
    """Perplexities compare with the same tokenizer only, so each comes with its vocabulary."""
    (rough,) = remarks("tinystories", n_params=1e6, loss=3.2, bits_per_byte=1.1, vocab_size=9_999)
    assert "vocabulary not stated" in rough
    assert "vocabulary 9,999, 1.1000 bits per byte" in rough


def test_examples() -> None:
    """The examples in the docstrings give what stands under them."""
    assert doctest.testmod(bands).failed == 0
