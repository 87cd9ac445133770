"""A grammar of stories as a value.

A story is a sequence of *parts*: fixed :class:`Text`, a :class:`Draw` (a variable takes a value,
and the text shows it), a :class:`Recall` (a value drawn before is shown again, in any of its
forms: ``Mia``, ``she``, ``her``) and a :class:`Choice` between wordings. A variable's weights may
depend on at most one other variable, its *parent*; the weights of a choice depend on nothing.
That much is enough for stories in which attention pays, and little enough for their entropy to
have a closed form (:mod:`lmcore.synthetic.entropy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from lmcore.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One value of a variable: its word, its integer weight and its other forms by name."""

    word: str
    weight: int = 1
    forms: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Variable:
    """A fact of the story. ``cases`` maps the parent's word (``""`` without one) to entries."""

    name: str
    cases: Mapping[str, tuple[Entry, ...]]
    parent: str | None = None


@dataclass(frozen=True)
class Text:
    """Characters that stand as they are."""

    text: str


@dataclass(frozen=True)
class Draw:
    """The variable takes its value here, and the text shows it in ``form``."""

    variable: str
    form: str = "word"


@dataclass(frozen=True)
class Recall:
    """The value drawn before is shown in ``form``."""

    variable: str
    form: str = "word"


@dataclass(frozen=True)
class Choice:
    """One of several wordings, by weights that depend on no variable."""

    alternatives: tuple[tuple[Part, ...], ...]
    weights: tuple[int, ...]


Part: TypeAlias = Text | Draw | Recall | Choice


@dataclass(frozen=True)
class Grammar:
    """Variables by name and the parts of a story.

    Example:
      >>> pet = Variable("pet", {"": (Entry("cat"), Entry("dog"))})
      >>> grammar = Grammar({"pet": pet}, (Text("A "), Draw("pet"), Text(".")))
      >>> grammar.story[0]
      Text(text='A ')
    """

    variables: Mapping[str, Variable]
    story: tuple[Part, ...]


def zipf(n: int) -> tuple[int, ...]:
    """Integer weights of ``n`` ranks after Mandelbrot's law: the weight of rank r is 6n / (r + 2).

    The offset 2 keeps the last of twelve ranks at a fifth of the first: rare enough to look like
    language, frequent enough to be learned from a few thousand stories.

    Args:
      n: how many ranks.

    Returns:
      ``n`` positive integers that never rise.

    Example:
      >>> zipf(4)
      (8, 6, 5, 4)

    References:
      Mandelbrot, 1953, An Informational Theory of the Statistical Structure of Language.
    """
    return tuple((12 * n + rank + 2) // (2 * (rank + 2)) for rank in range(1, n + 1))


def inflect(entry: Entry, form: str) -> str:
    """The text of ``entry`` in ``form``; a form with a capital is the small one, capitalised.

    Args:
      entry: a value of a variable.
      form: ``"word"``, a key of ``entry.forms``, or either with its first letter in upper case.

    Returns:
      The text to print.

    Raises:
      InputError: the entry has no such form.

    Example:
      >>> inflect(Entry("Mia", forms={"his": "her"}), "His")
      'Her'
    """
    if form in entry.forms:
        return entry.forms[form]
    if form == "word":
        return entry.word
    small = form[:1].lower() + form[1:]
    if small == form:
        have = ", ".join(["word", *entry.forms])
        raise InputError(f"{entry.word!r} has no form {form!r}: it has {have}; add the form")
    text = inflect(entry, small)
    return text[:1].upper() + text[1:]
