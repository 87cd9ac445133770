"""Forms of words and Zipf weights."""

import pytest

from lmcore.errors import InputError
from lmcore.synthetic.grammar import Entry, inflect, zipf


def test_weights_fall_with_rank_and_stay_positive():
    """Of any number of ranks the first weighs most, none rises, and all are at least one."""
    for n in range(1, 200):
        weights = zipf(n)
        assert len(weights) == n
        assert list(weights) == sorted(weights, reverse=True)
        assert weights[-1] >= 1


def test_weights_follow_mandelbrots_law():
    """Each weight is 6n / (r + 2) to the nearest integer."""
    for n in (1, 2, 5, 12, 40):
        for rank, weight in enumerate(zipf(n), start=1):
            assert abs(weight - 6 * n / (rank + 2)) <= 0.5


@pytest.mark.parametrize(
    ("form", "text"),
    [("word", "owl"), ("Word", "Owl"), ("a", "an owl"), ("A", "An owl"), ("few", "owls")],
)
def test_a_form_is_looked_up_and_a_capital_form_is_made(form, text):
    """A form comes from the entry; with a capital it is the small form, capitalised."""
    assert inflect(Entry("owl", forms={"a": "an owl", "few": "owls"}), form) == text


@pytest.mark.parametrize("form", ["his", "His", ""])
def test_a_missing_form_says_which_forms_there_are(form):
    """Asking for a form that an entry lacks names the entry and the forms it has."""
    with pytest.raises(InputError, match=r"'owl' has no form '.*': it has word, a; add"):
        inflect(Entry("owl", forms={"a": "an owl"}), form)
