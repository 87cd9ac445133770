"""Proof that a grammar is well formed and unambiguous, or every fault in it.

**The proof.** Take two different derivations of texts, and the first decision where they differ.
Up to it they wrote the same characters. After it one goes by alternative A, the other by B.
For each pair (A, B) of each decision we follow all continuations of both at once, keeping only
the characters by which one is ahead of the other, and drop every pair as soon as the two differ
in a character. If no pair ever meets at the same node with neither ahead, and none reaches the
end of a story, then no text has two derivations; nor is a story the beginning of another, so the
end of a story is no news and an end-of-text token adds nothing to the floor.

A recall is taken to show any value of its variable, so the search covers more than the grammar
can write: it may refuse an unambiguous grammar (reword the alternatives so that they differ
sooner), and never passes an ambiguous one.

References:
  Sardinas and Patterson, 1953, A Necessary and Sufficient Condition for the Unique Decomposition
  of Coded Messages (the search by dangling suffixes); Book, Even, Greibach and Ott, 1971,
  Ambiguity in Graphs and Expressions (pairs of states).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import log2

from lmcore.errors import InputError
from lmcore.synthetic.grammar import Choice, Draw, Grammar, Part, Recall, Variable, inflect
from lmcore.synthetic.program import (
    RANDOM_BITS,
    ChoiceNode,
    DrawNode,
    Node,
    RecallNode,
    TextNode,
    link,
)

# What a story may use of the random number, so that no probability is off by more than 2^-64.
DECISION_BITS = RANDOM_BITS - 64


def validated(grammar: Grammar) -> Grammar:
    """The grammar itself, when nothing is wrong with it.

    Args:
      grammar: any grammar.

    Returns:
      ``grammar``.

    Raises:
      InputError: with one line for each fault that :func:`faults` finds.

    Example:
      >>> from lmcore.synthetic.notation import read
      >>> validated(Grammar({}, read("[a|b|a]")))
      Traceback (most recent call last):
      ...
      lmcore.errors.InputError: the grammar of stories cannot be used:
      - two alternatives of a choice can both write 'a': ...
    """
    found = faults(grammar)
    if found:
        raise InputError("\n- ".join(["the grammar of stories cannot be used:", *found]))
    return grammar


def faults(grammar: Grammar) -> list[str]:
    """Everything that is wrong with a grammar, as messages; ambiguity is sought once it is sound.

    Args:
      grammar: any grammar.

    Returns:
      No message for a grammar that is well formed and unambiguous.

    Example:
      >>> faults(Grammar({}, (Recall("hero"),)))
      ["'hero' is recalled before it is drawn: draw it earlier", "the story uses 'hero', ..."]
    """
    malformed = [*_table_faults(grammar), *_choice_faults(grammar.story)]
    malformed += _order_faults(grammar, grammar.story, _Drawn())[0]
    return list(dict.fromkeys(malformed)) or [
        *_randomness_faults(grammar),
        *_ambiguities(grammar),
    ]


# --- well formed ------------------------------------------------------------------------------


def _table_faults(grammar: Grammar) -> Iterator[str]:
    """Faults of the variables themselves."""
    for name, variable in grammar.variables.items():
        if name != variable.name:
            yield f"variable {variable.name!r} is filed under {name!r}: use one name"
        yield from _case_faults(variable)
        yield from _parent_faults(grammar, variable)


def _case_faults(variable: Variable) -> Iterator[str]:
    """Faults inside a variable's cases."""
    for above, case in variable.cases.items():
        where = f"variable {variable.name!r}" + (f" after {above!r}" if above else "")
        if not case:
            yield f"{where} has no entry: give it at least one"
        for entry in case:
            if entry.weight < 1:
                yield f"{where}: {entry.word!r} weighs {entry.weight}: a weight is at least 1"
        words = [entry.word for entry in case]
        for word in sorted({word for word in words if words.count(word) > 1}):
            yield f"{where} has {word!r} more than once: add the weights up in one entry"


def _parent_faults(grammar: Grammar, variable: Variable) -> Iterator[str]:
    """Faults between a variable and its parent."""
    name, parent = variable.name, variable.parent
    if parent is None:
        expected = {""}
    elif parent not in grammar.variables:
        yield f"variable {name!r} depends on {parent!r}, which does not exist: declare it"
        return
    elif _is_circular(grammar, variable):
        yield f"variable {name!r} depends on itself through its parents: break the circle"
        return
    else:
        cases = grammar.variables[parent].cases.values()
        expected = {entry.word for case in cases for entry in case}
    for word in sorted(expected - set(variable.cases)):
        yield f"variable {name!r} has no case for {parent} = {word!r}: add one"
    for word in sorted(set(variable.cases) - expected):
        yield f"variable {name!r} has a case for {word!r}, which {parent} never is: drop it"


def _is_circular(grammar: Grammar, variable: Variable) -> bool:
    """Whether going from parent to parent comes back to a variable seen before."""
    seen: set[str] = set()
    above: Variable | None = variable
    while above is not None and above.name not in seen:
        seen.add(above.name)
        above = grammar.variables.get(above.parent) if above.parent else None
    return above is not None


def _choice_faults(parts: Sequence[Part]) -> Iterator[str]:
    """Faults in the weights of choices, at any depth."""
    for part in parts:
        if isinstance(part, Choice):
            if not part.alternatives or len(part.alternatives) != len(part.weights):
                yield (
                    f"a choice has {len(part.alternatives)} alternatives and "
                    f"{len(part.weights)} weights: give one or more, and a weight to each"
                )
            if any(weight < 1 for weight in part.weights):
                yield f"a choice has the weights {part.weights}: a weight is at least 1"
            for alternative in part.alternatives:
                yield from _choice_faults(alternative)


@dataclass(frozen=True)
class _Drawn:
    """Variables that have a value: on every way to a point of the story, and on some way."""

    surely: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()


def _order_faults(
    grammar: Grammar, parts: Sequence[Part], drawn: _Drawn
) -> tuple[list[str], _Drawn]:
    """Faults in what is drawn and recalled when, and what is drawn after the parts."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, Choice):
            ways = [_order_faults(grammar, way, drawn) for way in part.alternatives]
            found += [fault for way, _ in ways for fault in way]
            after = [state for _, state in ways] or [drawn]
            drawn = _Drawn(
                frozenset.intersection(*(state.surely for state in after)),
                frozenset.union(*(state.maybe for state in after)),
            )
        elif isinstance(part, Draw):
            found += _draw_faults(grammar, part, drawn)
            name = frozenset((part.variable,))
            drawn = _Drawn(drawn.surely | name, drawn.maybe | name)
        elif isinstance(part, Recall):
            if part.variable not in drawn.surely:
                found.append(f"{part.variable!r} is recalled before it is drawn: draw it earlier")
            found += _form_faults(grammar, part)
    return found, drawn


def _draw_faults(grammar: Grammar, part: Draw, drawn: _Drawn) -> Iterator[str]:
    """Faults of one draw."""
    name = part.variable
    if name in drawn.maybe:
        yield f"{name!r} is drawn a second time: recall it"
    variable = grammar.variables.get(name)
    if variable and variable.parent and variable.parent not in drawn.surely:
        yield f"{name!r} is drawn before {variable.parent!r}, on which it depends: draw that first"
    yield from _form_faults(grammar, part)


def _form_faults(grammar: Grammar, part: Draw | Recall) -> Iterator[str]:
    """Faults in the variable and the form that a part asks for."""
    variable = grammar.variables.get(part.variable)
    if variable is None:
        yield f"the story uses {part.variable!r}, which does not exist: declare the variable"
        return
    for entry in chain.from_iterable(variable.cases.values()):
        try:
            inflect(entry, part.form)
        except InputError as fault:
            yield f"variable {part.variable!r}: {fault}"


def _randomness_faults(grammar: Grammar) -> Iterator[str]:
    """Whether some story needs more random bits than one number holds."""
    needed = decision_bits(grammar, grammar.story)
    if needed > DECISION_BITS:
        yield (
            f"a story may take {needed:.0f} random bits: at most {DECISION_BITS} keep every "
            "probability exact to 2^-64; use fewer decisions or smaller weights"
        )


def decision_bits(grammar: Grammar, parts: Sequence[Part]) -> float:
    """The most that the parts take of the random number: log2 of the product of radices."""
    needed = 0.0
    for part in parts:
        if isinstance(part, Choice):
            longest = max(decision_bits(grammar, way) for way in part.alternatives)
            needed += log2(sum(part.weights)) + longest
        elif isinstance(part, Draw):
            cases = grammar.variables[part.variable].cases.values()
            needed += log2(max(sum(entry.weight for entry in case) for case in cases))
    return needed


# --- unambiguous ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """Two derivations of the same characters: one is ahead by ``lead`` characters of text."""

    behind: Node | None
    ahead: Node | None
    lead: str
    written: str = field(default="", compare=False)  # by the one behind, since they parted

    @property
    def collides(self) -> bool:
        """Both came to one node with the same text, or one story has ended inside the other."""
        return self.behind is None or (self.behind is self.ahead and not self.lead)


def _ambiguities(grammar: Grammar) -> Iterator[str]:
    """Each decision of which two alternatives can write the same characters."""
    texts = _texts_by_form(grammar)
    for node in _nodes(link(grammar)):
        if isinstance(node, ChoiceNode):
            branches = [branch for _, branch in node.branches]
            pairs = [_Pair(a, b, "") for a, b in combinations(branches, 2)]
            yield from _collision(pairs, texts, "two alternatives of a choice")
        elif isinstance(node, DrawNode):
            for case in node.tables.values():
                shown = [value.texts[node.form] for value in case.values]
                pairs = [
                    _Pair(node.next, node.next, longer[len(shorter) :], shorter)
                    for shorter, longer in combinations(sorted(shown), 2)
                    if longer.startswith(shorter)
                ]
                yield from _collision(pairs, texts, f"two values of {node.variable!r}")


def _collision(
    pairs: Sequence[_Pair], texts: Mapping[tuple[str, str], frozenset[str]], of_what: str
) -> Iterator[str]:
    """A message if some continuation of some pair collides."""
    seen: set[_Pair] = set()
    pending = list(pairs)
    while pending:
        pair = pending.pop()
        if pair.collides:
            yield (
                f"{of_what} can both write {pair.written!r}: word them so that they differ, "
                "and that no story is the beginning of another"
            )
            return
        if pair not in seen:
            seen.add(pair)
            pending += _advance(pair, texts)


def _advance(pair: _Pair, texts: Mapping[tuple[str, str], frozenset[str]]) -> Iterator[_Pair]:
    """The pairs after the one behind takes a step; those that differ in a character drop out."""
    for text, following in _steps(pair.behind, texts):
        if text.startswith(pair.lead):
            written = pair.written + pair.lead
            yield _Pair(pair.ahead, following, text[len(pair.lead) :], written)
        elif pair.lead.startswith(text):
            yield _Pair(following, pair.ahead, pair.lead[len(text) :], pair.written + text)


def _steps(
    node: Node | None, texts: Mapping[tuple[str, str], frozenset[str]]
) -> Iterator[tuple[str, Node | None]]:
    """Every text that a node may write, with the node that follows."""
    if isinstance(node, ChoiceNode):
        yield from (("", branch) for _, branch in node.branches)
    elif isinstance(node, TextNode):
        yield node.text, node.next
    elif node is not None:
        yield from ((text, node.next) for text in texts[node.variable, node.form])


def _texts_by_form(grammar: Grammar) -> dict[tuple[str, str], frozenset[str]]:
    """All that a variable can show in a form, whatever its parent."""
    texts: dict[tuple[str, str], set[str]] = {}
    for node in _nodes(link(grammar)):
        if isinstance(node, DrawNode | RecallNode):
            entries = chain.from_iterable(grammar.variables[node.variable].cases.values())
            texts[node.variable, node.form] = {inflect(entry, node.form) for entry in entries}
    return {key: frozenset(shown) for key, shown in texts.items()}


def _nodes(start: Node | None) -> Iterator[Node]:
    """Every node of a linked grammar, once."""
    seen: set[Node] = set()
    pending = [start]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending += (
            [way for _, way in node.branches] if isinstance(node, ChoiceNode) else [node.next]
        )
