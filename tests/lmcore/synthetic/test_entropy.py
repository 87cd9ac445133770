"""The closed form, against sums over every story."""

import math

import pytest
from hypothesis import given, settings

from lmcore.synthetic.derivations import enumerate_texts
from lmcore.synthetic.entropy import entropy_bits, expected_bits, expected_bytes, marginal
from lmcore.synthetic.grammar import Grammar
from lmcore.synthetic.program import link
from tests.lmcore.synthetic.small_grammars import BY_HAND, grammar, unambiguous_grammars

# Both sides are float64 sums of a few thousand terms of the same sign.
RELATIVE = 1e-11


def _by_enumeration(any_grammar: Grammar) -> tuple[float, float]:
    """Entropy and mean bytes by their definitions, summed over every text."""
    listed = list(enumerate_texts(link(any_grammar)))
    assert len({text for text, _ in listed}) == len(listed)
    bits = -math.fsum(float(share) * math.log2(share) for _, share in listed)
    return bits, math.fsum(float(share) * len(text.encode()) for text, share in listed)


@pytest.mark.parametrize("template", BY_HAND.values(), ids=BY_HAND)
def test_closed_form_is_the_sum_over_all_stories(template):
    """Expected bits and bytes of hand-made grammars equal the sums over all their texts."""
    bits, size = _by_enumeration(grammar(template))
    assert expected_bits(grammar(template)) == pytest.approx(bits, rel=RELATIVE, abs=1e-12)
    assert expected_bytes(grammar(template)) == pytest.approx(size, rel=RELATIVE)


@settings(deadline=None, max_examples=80)
@given(unambiguous_grammars())
def test_closed_form_is_the_sum_for_any_grammar(any_grammar):
    """So they do for any grammar of chained variables, branches that draw, and nested choices."""
    bits, size = _by_enumeration(any_grammar)
    assert expected_bits(any_grammar) == pytest.approx(bits, rel=RELATIVE, abs=1e-12)
    assert expected_bytes(any_grammar) == pytest.approx(size, rel=RELATIVE)


def test_of_an_ambiguous_grammar_it_overstates_the_entropy():
    """Why unambiguity matters: with a text made in two ways the closed form exceeds the truth."""
    ambiguous = grammar("[a|b|a]")
    texts: dict[str, float] = {}
    for text, share in enumerate_texts(link(ambiguous)):
        texts[text] = texts.get(text, 0.0) + float(share)
    truth = -sum(share * math.log2(share) for share in texts.values())
    assert expected_bits(ambiguous) > truth + 0.5


def test_bytes_are_counted_and_not_characters():
    """A letter outside ASCII counts as the bytes it takes in UTF-8."""
    assert expected_bytes(grammar("ë")) == 2.0


def test_marginals_follow_parents_two_levels_up():
    """The marginal of a grandchild sums over parent and grandparent."""
    # friend: Tom 3/6 * 5/7 + 1/6 * 3/7, Zoë 3/6 * 2/7 + 2/6 * 1/2, Mia 2/6 * 1/2 + 1/6 * 4/7
    friend = {"Tom": 3 / 7, "Zoë": 13 / 42, "Mia": 11 / 42}
    assert marginal(grammar(""), "friend") == pytest.approx(friend)
    three = friend["Zoë"] / 3
    assert marginal(grammar(""), "gift")["three"] == pytest.approx(three)


@pytest.mark.parametrize(
    ("weights", "bits"), [((1,), 0.0), ((1, 1), 1.0), ((2, 1, 1), 1.5), ((7,) * 8, 3.0)]
)
def test_entropy_of_weights_has_its_textbook_values(weights, bits):
    """Shannon's entropy of dyadic distributions comes out exactly."""
    assert entropy_bits(weights) == bits
