"""Every fault of a grammar is reported, all of them at once."""

import pytest

from lmcore.errors import InputError
from lmcore.synthetic.grammar import Choice, Entry, Grammar, Text, Variable
from lmcore.synthetic.notation import read
from lmcore.synthetic.validation import DECISION_BITS, decision_bits, faults, validated
from tests.lmcore.synthetic.small_grammars import AMBIGUOUS, BY_HAND, grammar

ONE = (Entry("one"),)


def _with(template: str, *variables: Variable) -> Grammar:
    """A grammar over the variables given."""
    return Grammar({variable.name: variable for variable in variables}, read(template))


FAULTY = {
    "recalled before": (grammar("{hero} ran. {+hero} ran."), "'hero' is recalled before it is"),
    "drawn in one branch only": (
        grammar("[Here {+hero}|No one] ran. {hero} sat."),
        "'hero' is recalled before it is drawn",
    ),
    "drawn twice": (grammar("{+hero} and {+hero}."), "'hero' is drawn a second time: recall it"),
    "drawn again after a branch": (
        grammar("[1{+hero}|2]. {+hero}."),
        "'hero' is drawn a second time",
    ),
    "child before parent": (
        grammar("{+friend} met {+hero}."),
        "'friend' is drawn before 'hero', on which it depends",
    ),
    "unknown variable": (grammar("{+heroine} ran."), "the story uses 'heroine', which does not"),
    "unknown form": (grammar("{+hero.his} hat."), "variable 'hero': 'Mia' has no form 'his'"),
    "unknown parent": (
        _with("", Variable("x", {"": ONE}, "y")),
        "variable 'x' depends on 'y', which does not exist",
    ),
    "circular parents": (
        _with("", Variable("x", {"one": ONE}, "y"), Variable("y", {"one": ONE}, "x")),
        "variable 'x' depends on itself through its parents",
    ),
    "missing case": (
        _with("", Variable("x", {"": ONE}), Variable("y", {}, "x")),
        "variable 'y' has no case for x = 'one'",
    ),
    "superfluous case": (
        _with("", Variable("x", {"": ONE}), Variable("y", {"one": ONE, "two": ONE}, "x")),
        "variable 'y' has a case for 'two', which x never is",
    ),
    "empty case": (_with("", Variable("x", {"": ()})), "variable 'x' has no entry"),
    "weight of zero": (
        _with("", Variable("x", {"": (Entry("one", 0),)})),
        "variable 'x': 'one' weighs 0: a weight is at least 1",
    ),
    "word twice": (
        _with("", Variable("x", {"": ONE * 2})),
        "variable 'x' has 'one' more than once",
    ),
    "wrong key": (Grammar({"y": Variable("x", {"": ONE})}, ()), "variable 'x' is filed under 'y'"),
    "too few weights": (
        Grammar({}, (Choice(((Text("a"),), (Text("b"),)), (1,)),)),
        "a choice has 2 alternatives and 1 weights",
    ),
    "no alternatives": (Grammar({}, (Choice((), ()),)), "a choice has 0 alternatives"),
    "weight of a choice below one": (
        Grammar({}, (Choice(((Text("a"),), (Text("b"),)), (1, -1)),)),
        "a choice has the weights (1, -1)",
    ),
    "more chance than one number holds": (
        grammar("[a|b]" * 200),
        f"a story may take 561 random bits: at most {DECISION_BITS} keep",
    ),
    **{name: (grammar(text), "can both write") for name, text in AMBIGUOUS.items()},
}


@pytest.mark.parametrize("case", FAULTY.values(), ids=FAULTY)
def test_each_fault_is_named_and_refused(case):
    """A faulty grammar raises an InputError that names the fault and all that go with it."""
    faulty, message = case
    with pytest.raises(InputError, match="the grammar of stories cannot be used:") as caught:
        validated(faulty)
    found = faults(faulty)
    assert message in found[0]
    assert all(f"\n- {fault}" in str(caught.value) for fault in found)


def test_all_faults_come_at_once():
    """An author mends a grammar in one round: every fault is listed, each once."""
    found = faults(grammar("{friend} saw {+heroine}, {friend} saw {+hero.his} hat."))
    assert len(found) == len(set(found)) == 5  # recall; unknown variable; a form for each of three


@pytest.mark.parametrize("template", BY_HAND.values(), ids=BY_HAND)
def test_a_sound_grammar_comes_back_as_it_is(template):
    """Validation returns the grammar itself."""
    sound = grammar(template)
    assert validated(sound) is sound


def test_random_bits_are_counted_along_the_longest_way():
    """Decisions add up along a story, and of alternatives the one that needs most counts."""
    story = grammar("{+hero}[a[|b]|c]")  # weights 3+2+1; then 4+3; then 4+3 in one branch
    assert 2 ** decision_bits(story, story.story) == pytest.approx(6 * 7 * 7)
