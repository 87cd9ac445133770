"""Writing stories by number, and scoring them exactly."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from lmcore.synthetic.derivations import (
    agreement,
    derivations,
    enumerate_texts,
    log2_probability,
    probability,
    write,
)
from lmcore.synthetic.program import link
from tests.lmcore.synthetic.small_grammars import (
    AMBIGUOUS,
    BY_HAND,
    grammar,
    unambiguous_grammars,
)


@pytest.mark.parametrize("template", [*BY_HAND.values(), *AMBIGUOUS.values()])
def test_probabilities_of_all_derivations_sum_to_one(template):
    """Listed in full, a grammar's derivations have probabilities that add up to exactly one."""
    listed = list(enumerate_texts(link(grammar(template))))
    assert sum(share for _, share in listed) == 1


@pytest.mark.parametrize("template", BY_HAND.values(), ids=BY_HAND)
def test_every_text_has_exactly_one_derivation_with_its_probability(template):
    """The filter finds for each listed text one derivation, of the probability it was listed by."""
    start = link(grammar(template))
    for text, share in enumerate_texts(start):
        assert list(derivations(start, text)) == [share]


def test_an_ambiguous_text_gets_the_sum_of_its_derivations():
    """Each way to write a text is found, and its probability is their sum."""
    start = link(grammar("[a|ab][b|bb]."))
    ways = Counter(text for text, _ in enumerate_texts(start))
    assert ways["abb."] == 2
    assert len(list(derivations(start, "abb."))) == 2
    by_list = sum((p for text, p in enumerate_texts(start) if text == "abb."), Fraction(0))
    assert probability(start, "abb.") == by_list


@settings(deadline=None, max_examples=60)
@given(unambiguous_grammars(), st.integers(), st.integers())
def test_what_is_written_can_be_derived_in_one_way(any_grammar, seed, index):
    """A written text has exactly one derivation, and all of it agrees with the grammar."""
    start = link(any_grammar)
    text = write(start, seed, index)
    assert len(list(derivations(start, text))) == 1
    assert agreement(start, text) == len(text)


@settings(deadline=None, max_examples=60)
@given(unambiguous_grammars(), st.text("uvw012ab.", max_size=12))
def test_a_text_is_derivable_just_when_it_is_in_the_list(any_grammar, text):
    """The filter and the full list agree on any text, in the list or not."""
    start = link(any_grammar)
    listed = dict(enumerate_texts(start))
    assert probability(start, text) == listed.get(text, 0)


def test_texts_come_as_often_as_their_probability_says():
    """Over 20,000 stories each text's frequency is within five standard errors of its share."""
    start = link(grammar(BY_HAND["parents"]))
    n = 20_000
    counts = Counter(write(start, 7, index) for index in range(n))
    listed = dict(enumerate_texts(start))
    assert set(counts) <= set(listed)
    for text, share in listed.items():
        error = math.sqrt(share * (1 - share) / n)
        assert abs(counts[text] / n - share) < 5 * error


def test_neighbouring_seeds_and_indices_are_independent():
    """Pairs of one bit each from neighbours fill all four cells evenly: no seed echoes another."""
    start = link(grammar("[a|b]"))  # weights 4 and 3
    n = 8_000
    for other in ((1, 0), (0, 1), (1, -1)):
        pairs = Counter(
            (write(start, 0, index), write(start, other[0], index + other[1])) for index in range(n)
        )
        for (one, two), count in pairs.items():
            share = (4 / 7 if one == "a" else 3 / 7) * (4 / 7 if two == "a" else 3 / 7)
            assert abs(count / n - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_the_logarithm_is_that_of_the_exact_fraction():
    """Bits come from exact integers, so far below the smallest float they are still right."""
    deep = link(grammar("[a|b]" * 2_000))  # 7^-2000 underflows: a product of floats would be 0
    text = "a" * 1_000 + "b" * 1_000
    expected = 1_000 * (math.log2(4 / 7) + math.log2(3 / 7))
    assert log2_probability(deep, text) == pytest.approx(expected, rel=1e-12)
    assert log2_probability(deep, text + "c") == -math.inf


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        ("", 0),
        ("Mia slept. She slept well.", 26),
        ("Mia slept. He slept well.", 11),
        ("Mi", 2),
        ("Mib", 2),
        ("Bob slept.", 0),
        ("Tom slept. He slept well. And", 25),
    ],
)
def test_agreement_points_at_the_first_wrong_character(text, agrees):
    """Agreement counts what is right before the first fault, unfinished stories included."""
    assert agreement(link(grammar(BY_HAND["draw"])), text) == agrees
