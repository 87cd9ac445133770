"""Everything that can be wrong with a grammar, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log2

from lmcore.errors import InputError
from lmcore.synthetic.derivations import RANDOM_BITS
from lmcore.synthetic.grammar import Choice, Draw, Grammar, Part, Recall, Variable, inflect
from lmcore.synthetic.unambiguity import ambiguities

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
        *ambiguities(grammar),
    ]


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
