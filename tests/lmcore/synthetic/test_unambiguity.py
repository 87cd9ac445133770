"""The proof that no text can be derived in two ways."""

from itertools import pairwise

import pytest
from hypothesis import given, settings

from lmcore.synthetic.derivations import enumerate_texts
from lmcore.synthetic.grammar import Entry, Grammar, Variable
from lmcore.synthetic.notation import read
from lmcore.synthetic.program import link
from lmcore.synthetic.unambiguity import ambiguities
from tests.lmcore.synthetic.small_grammars import (
    AMBIGUOUS,
    BY_HAND,
    grammar,
    unambiguous_grammars,
    wordings,
)


def _clashes(any_grammar: Grammar) -> bool:
    """By definition: some text is listed twice, or another begins with it."""
    texts = sorted(text for text, _ in enumerate_texts(link(any_grammar)))
    return any(longer.startswith(shorter) for shorter, longer in pairwise(texts))


@pytest.mark.parametrize("template", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_grammars_are_refused(template):
    """A grammar that makes a text twice, or one inside another, is found out."""
    assert _clashes(grammar(template))
    assert list(ambiguities(grammar(template)))


@pytest.mark.parametrize("template", BY_HAND.values(), ids=BY_HAND)
def test_unambiguous_grammars_pass(template):
    """No fault is found in grammars that have none."""
    assert not _clashes(grammar(template))
    assert not list(ambiguities(grammar(template)))


@settings(deadline=None, max_examples=300)
@given(wordings())
def test_without_variables_the_proof_is_the_definition(parts):
    """Of texts and choices alone, a grammar is refused just when its list of texts clashes."""
    any_grammar = Grammar({}, parts)
    assert bool(list(ambiguities(any_grammar))) == _clashes(any_grammar)


@settings(deadline=None, max_examples=60)
@given(unambiguous_grammars())
def test_grammars_made_unambiguous_pass(any_grammar):
    """Grammars with variables and branches that a digit tells apart are not refused."""
    assert not list(ambiguities(any_grammar))


def test_words_that_begin_alike_pass_if_what_follows_differs():
    """``ball`` and ``balloon`` are told apart by the full stop, not by what may continue them."""
    toys = Variable("toy", {"": (Entry("ball"), Entry("balloon"))})
    assert not list(ambiguities(Grammar({"toy": toys}, read("A {+toy}."))))
    found = list(ambiguities(Grammar({"toy": toys}, read("A {+toy}[.|oon.]"))))
    assert found == [
        "two values of 'toy' can both write 'balloon.': word them so that they differ, and that "
        "no story is the beginning of another"
    ]


def test_a_recall_may_be_taken_for_any_value():
    """The proof may refuse what is sound: two people who differ might, for all it knows, not."""
    told = "{+hero} met {+friend}. [{hero}|{friend}] waved."
    assert not _clashes(grammar(told))
    assert list(ambiguities(grammar(told)))


def test_the_message_shows_the_text_that_can_come_about_in_two_ways():
    """The error names what two alternatives can both write, so that the author finds them."""
    found = list(ambiguities(grammar("Once [upon a|upon] [time|a time].")))
    assert len(found) == 1
    assert found[0].startswith("two alternatives of a choice can both write 'upon a time.'")
