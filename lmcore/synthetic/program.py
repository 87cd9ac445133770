"""A grammar linked into a graph of nodes, each of which knows what follows it.

Writing a story and reading one back are then loops over nodes, and the alternatives of a choice
share the rest of the story. Values are tabulated once, by weight and by form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TypeAlias, TypeVar

from lmcore.synthetic.grammar import Choice, Draw, Entry, Grammar, Part, Recall, Text, inflect

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """An entry as drawn: its word, its weight and the text of every form the story uses."""

    word: str
    weight: int
    texts: Mapping[str, str]


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """The values of one case; ``units`` repeats each by its weight: a draw is an index."""

    values: tuple[Value, ...]
    units: tuple[Value, ...]


@dataclass(frozen=True, eq=False, slots=True)
class TextNode:
    """Characters, then ``next``."""

    text: str
    next: Node | None


@dataclass(frozen=True, eq=False, slots=True)
class RecallNode:
    """The text of a variable drawn before, then ``next``."""

    variable: str
    form: str
    next: Node | None


@dataclass(frozen=True, eq=False, slots=True)
class DrawNode:
    """A variable takes a value from the table of its parent's word, its text, then ``next``."""

    variable: str
    form: str
    parent: str | None
    tables: Mapping[str, Table]
    next: Node | None


@dataclass(frozen=True, eq=False, slots=True)
class ChoiceNode:
    """One of ``branches``, each of which runs on to the end of the story."""

    branches: tuple[tuple[int, Node | None], ...]
    units: tuple[Node | None, ...]


Node: TypeAlias = TextNode | RecallNode | DrawNode | ChoiceNode


def link(grammar: Grammar) -> Node | None:
    """The first node of a grammar's story (None for an empty one).

    Args:
      grammar: a grammar; :func:`lmcore.synthetic.validation.validated` first if it is new.

    Returns:
      The node from which everything in :mod:`lmcore.synthetic.derivations` starts.

    Raises:
      InputError: the story asks for a form that an entry lacks.

    Example:
      >>> link(Grammar({}, (Text("Hel"), Text("lo."))))
      TextNode(text='Hello.', next=None)
    """
    tables = {name: _tables(grammar, name) for name in grammar.variables}
    return _link(grammar.story, None, grammar, tables)


def _link(
    parts: Sequence[Part],
    following: Node | None,
    grammar: Grammar,
    tables: Mapping[str, Mapping[str, Table]],
) -> Node | None:
    """The parts as nodes in front of ``following``."""
    for part in reversed(parts):
        if isinstance(part, Text):
            following = _text(part.text, following)
        elif isinstance(part, Recall):
            following = RecallNode(part.variable, part.form, following)
        elif isinstance(part, Draw):
            name, parent = part.variable, grammar.variables[part.variable].parent
            following = DrawNode(name, part.form, parent, tables[name], following)
        else:
            following = _branches(part, following, grammar, tables)
    return following


def _text(text: str, following: Node | None) -> Node | None:
    """Text in front of a node; two texts in a row become one, an empty one none."""
    if isinstance(following, TextNode):
        return TextNode(text + following.text, following.next)
    return TextNode(text, following) if text else following


def _branches(
    choice: Choice,
    following: Node | None,
    grammar: Grammar,
    tables: Mapping[str, Mapping[str, Table]],
) -> ChoiceNode:
    """A choice whose every alternative runs on to ``following``."""
    linked = [_link(parts, following, grammar, tables) for parts in choice.alternatives]
    branches = tuple(zip(choice.weights, linked, strict=True))
    return ChoiceNode(branches, _repeated(linked, choice.weights))


def _tables(grammar: Grammar, name: str) -> dict[str, Table]:
    """A variable's cases with every form that the story uses spelled out."""
    forms = _forms(grammar.story, name)
    tables: dict[str, Table] = {}
    for above, case in grammar.variables[name].cases.items():
        values = tuple(_value(entry, forms) for entry in case)
        tables[above] = Table(values, _repeated(values, [entry.weight for entry in case]))
    return tables


def _value(entry: Entry, forms: set[str]) -> Value:
    """An entry with its forms spelled out."""
    return Value(entry.word, entry.weight, {form: inflect(entry, form) for form in forms})


def _forms(parts: Sequence[Part], variable: str) -> set[str]:
    """The forms in which the parts show a variable."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, Choice):
            for alternative in part.alternatives:
                found |= _forms(alternative, variable)
        elif not isinstance(part, Text) and part.variable == variable:
            found.add(part.form)
    return found


def _repeated(items: Sequence[T], weights: Sequence[int]) -> tuple[T, ...]:
    """Each item as often as it weighs."""
    return tuple(chain.from_iterable(map(repeat, items, weights)))
