"""The embedded corpus: endless small stories, and the floor that no model can beat.

A child with a name and a hobby meets one of five plots (a lost toy, a shared lunch, seeds, an
animal on its way home, baking); what was told early returns near the end. The sentences are in
:mod:`lmcore.synthetic.plots`, the words in :mod:`lmcore.synthetic.words`; how the floor follows
from them is told in :mod:`lmcore.synthetic.entropy`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from lmcore.synthetic import entropy
from lmcore.synthetic.derivations import agreement, log2_probability, write
from lmcore.synthetic.grammar import Grammar
from lmcore.synthetic.plots import grammar_of_stories
from lmcore.synthetic.program import Node, link
from lmcore.synthetic.validation import validated


@cache
def story_grammar() -> Grammar:
    """The grammar of the stories, proven unambiguous; made once.

    Returns:
      A grammar of which :func:`story` samples.

    Example:
      >>> sorted(story_grammar().variables)[:3]
      ['animal', 'cake', 'child']
    """
    return validated(grammar_of_stories())


@cache
def _start() -> Node | None:
    """The linked grammar, made once."""
    return link(story_grammar())


def story(seed: int, index: int) -> str:
    """Story number ``index`` of a seed, a pure function of both.

    Any two different pairs give independent stories, so training and validation are told apart by
    their seeds or by their ranges of indices.

    Args:
      seed: any integer.
      index: any integer.

    Returns:
      A story of a few paragraphs, without a final line end.

    Example:
      >>> story(seed=0, index=1).split(",")[0]
      'Once upon a time'
    """
    return write(_start(), seed, index)


def stories(seed: int, start: int, count: int) -> Iterator[str]:
    """Stories ``start`` to ``start + count - 1`` of a seed, one at a time.

    Args:
      seed: any integer.
      start: index of the first story.
      count: how many.

    Yields:
      What :func:`story` returns for each index.

    Example:
      >>> list(stories(seed=0, start=5, count=2)) == [story(0, 5), story(0, 6)]
      True
    """
    first = _start()
    return (write(first, seed, index) for index in range(start, start + count))


def story_log2_probability(text: str) -> float:
    """Exact log2 of the probability that a story is ``text``; its negative is the story's bits.

    Summed over a validation set it gives that set's *realised floor*: no model expects to spend
    fewer bits on these very stories.

    Args:
      text: a whole story, without anything before or after it.

    Returns:
      Bits, at most zero; minus infinity for a text that is not a story (see :func:`is_story`).

    Example:
      >>> story_log2_probability("Once upon a time, the end.")
      -inf
    """
    return log2_probability(_start(), text)


def is_story(text: str) -> bool:
    """Whether the grammar can make ``text``: of generated samples, the share that is right.

    Args:
      text: a whole story.

    Returns:
      True if its probability is positive: every recall, sum and pronoun in it is right.

    Example:
      >>> is_story(story(seed=0, index=0)), is_story("The end.")
      (True, False)
    """
    return story_log2_probability(text) > -math.inf


def story_agreement(text: str) -> int:
    """How many leading characters of ``text`` agree with some story: where a sample goes wrong.

    Args:
      text: the beginning of a story, right or wrong.

    Returns:
      A count of characters, ``len(text)`` if nothing is wrong with it (it may be unfinished).

    Example:
      >>> story_agreement("Once upon a time, there is")
      24
    """
    return agreement(_start(), text)


@cache
def expected_bits() -> float:
    """Entropy of a story in bits, in closed form (:mod:`lmcore.synthetic.entropy`).

    Returns:
      The least that any model can spend on a story on average.

    Example:
      >>> 60 < expected_bits() < 110
      True
    """
    return entropy.expected_bits(story_grammar())


@cache
def expected_bytes() -> float:
    """Mean length of a story in UTF-8 bytes, in closed form.

    Returns:
      Bytes a story, without the end-of-text token.

    Example:
      >>> 450 < expected_bytes() < 650
      True
    """
    return entropy.expected_bytes(story_grammar())


def entropy_bits_per_byte() -> float:
    """The floor: expected bits over expected bytes.

    Returns:
      Bits a byte. A model that scores below it, by more than the chance of a finite validation
      set, has seen what it should not have.

    Example:
      >>> entropy_bits_per_byte() == expected_bits() / expected_bytes()
      True
    """
    return expected_bits() / expected_bytes()
