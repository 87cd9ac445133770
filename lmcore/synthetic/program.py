"""A grammar linked into a graph of nodes: writing stories, reading them back, listing them all.

Each node knows what follows it, so that writing a story and parsing one are loops over nodes and
the alternatives of a choice share the rest of the story. Values are tabulated once by weight and
by form. In plain Python this writes about 25,000 stories a second and scores about 4,000.

Randomness is one number: :math:`U = \\text{BLAKE2b}(seed, index)`, uniform on
:math:`[0, 2^{512})`. Its digits in mixed radix, the radix of each decision being the sum of its
weights, are the decisions: ``U, unit = divmod(U, total)``. A story is therefore the same on every
platform and in every process, costs one hash, and comes out with its probability to within a
relative error of 2^-64 (:mod:`lmcore.synthetic.validation` holds the product of the radices to
2^448).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from itertools import chain, repeat
from typing import TypeAlias, TypeVar

from lmcore.synthetic.grammar import Choice, Draw, Entry, Grammar, Part, Recall, Text, inflect

T = TypeVar("T")

RANDOM_BITS = 512  # of one BLAKE2b digest, its largest


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
      The node from which :func:`write`, :func:`derivations` and the others start.

    Raises:
      InputError: the story asks for a form that an entry lacks.

    Example:
      >>> start = link(Grammar({}, (Text("Hello."),)))
      >>> write(start, seed=0, index=0)
      'Hello.'
    """
    tables = {name: _tables(grammar, name) for name in grammar.variables}
    return _link(grammar.story, None, grammar, tables)


def write(start: Node | None, seed: int, index: int) -> str:
    """Story number ``index`` of a seed: a pure function, with every pair's story independent.

    Args:
      start: the first node, from :func:`link`.
      seed: any integer.
      index: any integer.

    Returns:
      The text of the story.

    Example:
      >>> from lmcore.synthetic.notation import read
      >>> write(link(Grammar({}, read("[Good|Bad] [day|night]."))), seed=0, index=3)
      'Bad day.'
    """
    digits = int.from_bytes(blake2b(b"%d/%d" % (seed, index)).digest(), "little")
    values: dict[str, Value] = {}
    texts: list[str] = []
    node = start
    while node is not None:
        if isinstance(node, TextNode):
            texts.append(node.text)
        elif isinstance(node, RecallNode):
            texts.append(values[node.variable].texts[node.form])
        elif isinstance(node, ChoiceNode):
            digits, unit = divmod(digits, len(node.units))
            node = node.units[unit]
            continue
        else:
            units = node.tables[values[node.parent].word if node.parent else ""].units
            digits, unit = divmod(digits, len(units))
            values[node.variable] = units[unit]
            texts.append(units[unit].texts[node.form])
        node = node.next
    return "".join(texts)


def derivations(start: Node | None, text: str) -> Iterator[Fraction]:
    """The exact probability of each derivation of ``text``: of an unambiguous grammar, one or none.

    A forward filter: all derivations that agree with the text so far, longest first. The
    alternatives of our grammars differ within a few characters, so the filter hardly ever holds
    more than one.

    Args:
      start: the first node, from :func:`link`.
      text: any text.

    Yields:
      One probability for each way in which the grammar can make the text.

    Example:
      >>> from lmcore.synthetic.notation import read
      >>> list(derivations(link(Grammar({}, read("[a|b|a]"))), "a"))
      [Fraction(2, 5), Fraction(4, 15)]
    """
    for _, probability in _follow(start, text):
        if probability is not None:
            yield probability


def probability(start: Node | None, text: str) -> Fraction:
    """The exact probability of a text: the sum over its derivations, 0 when it has none."""
    return sum(derivations(start, text), Fraction(0))


def log2_probability(start: Node | None, text: str) -> float:
    """Base-2 logarithm of :func:`probability`, minus infinity for a text that cannot be derived."""
    exact = probability(start, text)
    if not exact:
        return -math.inf
    # Fraction by Fraction: numerator and denominator may each exceed the range of a float.
    return math.log2(exact.numerator) - math.log2(exact.denominator)


def agreement(start: Node | None, text: str) -> int:
    """How many leading characters of ``text`` some story shares: where it stops being one.

    Args:
      start: the first node, from :func:`link`.
      text: any text.

    Returns:
      A count of characters; ``len(text)`` when the text is a story or the beginning of one.

    Example:
      >>> agreement(link(Grammar({}, (Text("Good day."),))), "Good night.")
      5
    """
    return max((reached for reached, _ in _follow(start, text)), default=0)


def enumerate_texts(start: Node | None) -> Iterator[tuple[str, Fraction]]:
    """Every derivation of a small grammar as its text and exact probability, lazily.

    Args:
      start: the first node, from :func:`link`.

    Yields:
      Text and probability; the probabilities sum to one. An ambiguous grammar yields a text once
      for each of its derivations.

    Example:
      >>> from lmcore.synthetic.notation import read
      >>> dict(enumerate_texts(link(Grammar({}, read("[a|b]c")))))
      {'ac': Fraction(4, 7), 'bc': Fraction(3, 7)}
    """
    pending: list[tuple[Node | None, str, Mapping[str, Value], Fraction]]
    pending = [(start, "", {}, Fraction(1))]
    while pending:
        node, text, values, reach = pending.pop()
        if node is None:
            yield text, reach
        elif isinstance(node, TextNode):
            pending.append((node.next, text + node.text, values, reach))
        elif isinstance(node, RecallNode):
            shown = values[node.variable].texts[node.form]
            pending.append((node.next, text + shown, values, reach))
        elif isinstance(node, ChoiceNode):
            for weight, branch in reversed(node.branches):
                share = Fraction(weight, len(node.units))
                pending.append((branch, text, values, reach * share))
        else:
            table = _table(node, values)
            for value in reversed(table.values):
                share = Fraction(value.weight, len(table.units))
                bound = {**values, node.variable: value}
                pending.append((node.next, text + value.texts[node.form], bound, reach * share))


def _follow(start: Node | None, text: str) -> Iterator[tuple[int, Fraction | None]]:
    """Each way to follow the text until it ends or fails: how far it came, and its probability."""
    pending: list[tuple[Node | None, int, Mapping[str, Value], int, int]] = [(start, 0, {}, 1, 1)]
    while pending:
        node, at, values, numerator, denominator = pending.pop()
        while node is not None:
            if isinstance(node, ChoiceNode):
                denominator *= len(node.units)
                for weight, branch in reversed(node.branches):
                    pending.append((branch, at, values, numerator * weight, denominator))
                break
            if isinstance(node, DrawNode):
                table = _table(node, values)
                denominator *= len(table.units)
                for value in reversed(table.values):
                    shown = value.texts[node.form]
                    if text.startswith(shown, at):
                        bound = {**values, node.variable: value}
                        state = (node.next, at + len(shown), bound, numerator * value.weight)
                        pending.append((*state, denominator))
                    else:
                        yield at + _shared(shown, text, at), None
                break
            shown = node.text if isinstance(node, TextNode) else _recalled(node, values)
            if not text.startswith(shown, at):
                yield at + _shared(shown, text, at), None
                break
            at += len(shown)
            node = node.next
        else:
            yield at, Fraction(numerator, denominator) if at == len(text) else None


def _recalled(node: RecallNode, values: Mapping[str, Value]) -> str:
    """The text that a recall shows."""
    return values[node.variable].texts[node.form]


def _table(node: DrawNode, values: Mapping[str, Value]) -> Table:
    """The table that a draw draws from, given what was drawn before."""
    return node.tables[values[node.parent].word if node.parent else ""]


def _shared(shown: str, text: str, at: int) -> int:
    """How many leading characters of ``shown`` stand in ``text`` at a position."""
    pairs = zip(shown, text[at : at + len(shown)], strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(shown), len(text) - at))


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
