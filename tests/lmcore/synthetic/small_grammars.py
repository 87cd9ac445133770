"""Small grammars that the tests of the synthetic corpus share: by hand, and by hypothesis."""

from hypothesis import strategies as st

from lmcore.synthetic.grammar import Choice, Draw, Entry, Grammar, Part, Recall, Text, Variable
from lmcore.synthetic.notation import read

PEOPLE = Variable(
    "hero",
    {
        "": (
            Entry("Mia", 3, {"he": "she"}),
            Entry("Tom", 2, {"he": "he"}),
            Entry("Zoë", 1, {"he": "she"}),
        )
    },
)
# The second person is never the first: a table that depends on its parent.
FRIENDS = Variable(
    "friend",
    {
        "Mia": (Entry("Tom", 5), Entry("Zoë", 2)),
        "Tom": (Entry("Mia", 1), Entry("Zoë", 1)),
        "Zoë": (Entry("Mia", 4), Entry("Tom", 3)),
    },
    "hero",
)
# A grandchild, whose forms depend on its own parent too: what is left after giving.
GIFTS = Variable(
    "gift",
    {
        "Mia": (Entry("one", 1, {"left": "two"}), Entry("two", 3, {"left": "one"})),
        "Tom": (Entry("one", 1, {"left": "four"}),),
        "Zoë": (Entry("two", 2, {"left": "three"}), Entry("three", 1, {"left": "two"})),
    },
    "friend",
)


def grammar(template: str) -> Grammar:
    """A grammar over the three variables above."""
    variables = {variable.name: variable for variable in (PEOPLE, FRIENDS, GIFTS)}
    return Grammar(variables, read(template))


BY_HAND = {
    "fixed": "Nothing to choose.",
    "choice": "[a|b|c]",
    "nested": "[x[1|2[p|q|r]]|y|z[|s]].",
    "draw": "{+hero} slept. {hero.He} slept well.",
    "parents": "{+hero} met {+friend}, and {hero.he} gave {+gift}; {gift.left} left.",
    "draw in a branch": "[One {+hero}, {hero.he} ran|No one].",
    "one variable drawn in two branches": "[A: {+hero}|B: {+hero.Word}, {hero}]. So {hero.he}.",
    "parent before, child in a branch": "{+hero} [saw {+friend} and {+gift}|slept].",
}
"""Unambiguous grammars, small enough to list."""

AMBIGUOUS = {
    "equal alternatives": "[a|b|a]",
    "split in two ways": "[a|ab][b|bb].",
    "optional, then the same": "[|x]x[|x].",
    "beginning of another": "a[|b]",
    "draw shown by a pronoun": "{+hero.he} ran.",
    "nested in different branches": "[a[b|c]|ab]d",
}
"""Grammars that make some text in two ways, or a text that another begins with."""

_letters = st.text("ab", max_size=3)
_weights = st.integers(1, 5)


@st.composite
def wordings(draw, depth: int = 2) -> tuple[Part, ...]:
    """Texts and choices over two letters: as often ambiguous as not."""
    parts: list[Part] = []
    for _ in range(draw(st.integers(1, 3))):
        if depth and draw(st.booleans()):
            ways = draw(st.lists(wordings(depth=depth - 1), min_size=1, max_size=3))
            parts.append(Choice(tuple(ways), tuple(draw(_weights) for _ in ways)))
        else:
            parts.append(Text(draw(_letters)))
    return tuple(parts)


@st.composite
def variables(draw) -> dict[str, Variable]:
    """Three variables in a chain of parents, whose words tell themselves apart."""
    chain: dict[str, Variable] = {}
    above, parent = [""], None
    for name in ("u", "v", "w"):
        cases = {
            word: tuple(
                Entry(f"{name}{n}", draw(_weights), {"form": draw(_letters)})
                for n in range(draw(st.integers(1, 3)))
            )
            for word in above
        }
        chain[name] = Variable(name, cases, parent)
        above, parent = sorted({entry.word for case in cases.values() for entry in case}), name
    return chain


@st.composite
def _sentences(draw, todraw: list[str], drawn: list[str], depth: int) -> tuple[Part, ...]:
    """Parts that draw the variables of ``todraw`` in order; choices are told apart by a digit."""
    parts: list[Part] = [Text(draw(_letters))]
    todraw, drawn = list(todraw), list(drawn)
    while todraw or draw(st.booleans()):
        kind = draw(st.sampled_from(["draw", "recall", "choice"]))
        if kind == "draw" and todraw:
            drawn.append(todraw.pop(0))
            parts += [Draw(drawn[-1]), Text(draw(_letters))]
        elif kind == "recall" and drawn:
            parts.append(Recall(draw(st.sampled_from(drawn)), draw(st.sampled_from(_FORMS))))
        elif kind == "choice" and depth:
            taken = todraw[: draw(st.integers(0, len(todraw)))]
            ways = [
                (Text(str(n)), *draw(_sentences(taken, drawn, depth - 1)))
                for n in range(draw(st.integers(1, 2)))
            ]
            parts.append(Choice(tuple(ways), tuple(draw(_weights) for _ in ways)))
            todraw, drawn = todraw[len(taken) :], drawn + taken
    return tuple(parts)


_FORMS = ("word", "form", "Form")


@st.composite
def unambiguous_grammars(draw) -> Grammar:
    """Grammars with chained variables and nested choices, unambiguous by construction."""
    todraw = ["u", "v", "w"][: draw(st.integers(0, 3))]
    story = draw(_sentences(todraw, [], 1))
    return Grammar(draw(variables()), (*story, Text(".")))
