"""The notation in which stories are written."""

import pytest

from lmcore.errors import InputError
from lmcore.synthetic.grammar import Choice, Draw, Recall, Text, zipf
from lmcore.synthetic.notation import read


def test_every_construct_of_the_notation_is_read():
    """Draws, recalls, forms and plain text become their parts, in order."""
    assert read('{+toy.a} and {toy}, "{hero.He}"!\n') == (
        Draw("toy", "a"),
        Text(" and "),
        Recall("toy"),
        Text(', "'),
        Recall("hero", "He"),
        Text('"!\n'),
    )


def test_choices_nest_and_may_be_empty():
    """Brackets hold alternatives by Zipf weights, empty ones and further brackets included."""
    inner = Choice(((Text("b"),), (Draw("x"),)), zipf(2))
    assert read("[|a[b|{+x}]|c]") == (Choice(((), (Text("a"), inner), (Text("c"),)), zipf(3)),)


def test_an_empty_template_has_no_parts():
    """Nothing written is nothing read."""
    assert read("") == ()


@pytest.mark.parametrize(
    ("template", "sign", "position"),
    [("a|b", "|", 1), ("[a|b", "[", 0), ("a]b", "]", 1), ("{ x}", "{", 0), ("a}b", "}", 1)],
)
def test_a_sign_without_its_partner_is_refused_with_its_place(template, sign, position):
    """A misplaced sign is an error that says which, where, and what can be written."""
    with pytest.raises(InputError) as caught:
        read(template)
    assert str(caught.value).startswith(f"{sign!r} at character {position} of a story template")
    assert "{+variable}" in str(caught.value)


def test_the_place_of_an_open_bracket_is_that_of_the_one_left_open():
    """With brackets that are closed after it, the message still points at the open one."""
    with pytest.raises(InputError, match="at character 2 "):
        read("ab[c[d|e]")
