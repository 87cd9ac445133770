"""The notation in which stories are written down, and its reader.

==============================  ==================================================================
``{+toy}``, ``{+toy.a}``        draw the variable ``toy`` and show it (as a word, in the form "a")
``{toy}``, ``{hero.he}``        recall it
``[One day|Once|Today]``        one of these, by Zipf weights: the first is the most frequent
``[|very ]happy``               an alternative may be empty; choices may be nested
==============================  ==================================================================

Everything else stands as it is; the five signs ``{ } [ ] |`` themselves cannot be written.
"""

from __future__ import annotations

import re

from lmcore.errors import InputError
from lmcore.synthetic.grammar import Choice, Draw, Part, Recall, Text, zipf

_PIECE = re.compile(r"\{(?P<new>\+?)(?P<variable>\w+)(?:\.(?P<form>\w+))?\}|[^][{}|]+|[][{}|]")


def read(template: str) -> tuple[Part, ...]:
    """The parts that a template in the notation above stands for.

    Args:
      template: sentences with ``{recalls}``, ``{+draws}`` and ``[wording|choices]``.

    Returns:
      A sequence of parts, as in :class:`lmcore.synthetic.grammar.Grammar`.

    Raises:
      InputError: a bracket without its partner, or a bar outside brackets.

    Example:
      >>> read("A {+toy}.")
      (Text(text='A '), Draw(variable='toy', form='word'), Text(text='.'))
    """
    alternatives: list[list[Part]] = [[]]
    outer: list[tuple[list[list[Part]], int]] = []  # around each open bracket, and its place
    for piece in _PIECE.finditer(template):
        sign = piece.group()
        if sign == "[":
            outer.append((alternatives, piece.start()))
            alternatives = [[]]
        elif sign == "|" and outer:
            alternatives.append([])
        elif sign == "]" and outer:
            choice = Choice(tuple(map(tuple, alternatives)), zipf(len(alternatives)))
            alternatives, _ = outer.pop()
            alternatives[-1].append(choice)
        elif sign in "{}[]|":
            raise InputError(_misplaced(template, sign, piece.start()))
        else:
            alternatives[-1].append(_part(piece))
    if outer:
        raise InputError(_misplaced(template, "[", outer[-1][1]))
    return tuple(alternatives[0])


def _part(piece: re.Match[str]) -> Part:
    """A draw, a recall or plain text."""
    if not piece["variable"]:
        return Text(piece.group())
    kind = Draw if piece["new"] else Recall
    return kind(piece["variable"], piece["form"] or "word")


def _misplaced(template: str, sign: str, position: int) -> str:
    """What is wrong with a sign, and where."""
    around = template[max(0, position - 20) : position + 20]
    return (
        f"{sign!r} at character {position} of a story template, near {around!r}, has no partner: "
        "write {variable}, {+variable} or [one|another]"
    )
