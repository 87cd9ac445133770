r"""The exact entropy of a grammar, and its exact mean length: the floor under every loss.

**Expected bits, in closed form.** A *derivation* is the list of decisions (draws and choices) that
made a text. Let :math:`r_d` be the probability that decision *d* is reached. The chain rule gives
the entropy of the derivation,

.. math:: H = \sum_{d} r_d \, H_d, \qquad
          H_d = -\sum_i \tfrac{w_i}{W} \log_2 \tfrac{w_i}{W} \;\text{ for a choice},

.. math:: H_d = \sum_u P(u) \, H(X \mid u) \;\text{ for a draw of } X \text{ whose parent has
          value } u, \qquad P(x) = \sum_u P(u) \, P(x \mid u).

It is exact, with no sum over stories, because whether a decision is reached depends only on
choices, and choices never look at variables: given that a draw is reached, its parent still has
its own marginal :math:`P(u)`. In nested form, which is what :func:`expected_bits` computes, a
sequence adds its parts and a choice adds :math:`H_d + \sum_i \frac{w_i}{W} \cdot` (bits of
alternative *i*); the products of the :math:`w_i / W` are the :math:`r_d`. :func:`expected_bytes`
is the same recursion with the length of each text in place of :math:`H_d`: the expectation of a
sum is the sum of expectations, so a recall needs its variable's marginal and nothing else.

**Why the grammar must be unambiguous.** What a model sees is the text, and
:math:`H(\text{text}) = H(\text{derivation}) - H(\text{derivation} \mid \text{text})`. The last
term is zero exactly when each text has one derivation. Were there two ways to write one story,
the sum above would overstate the floor, and an honest model could score below it.
:mod:`lmcore.synthetic.unambiguity` proves that there are not.

**Why the floor in bits per byte is a ratio of expectations.** Over stories :math:`x_1 \dots x_N`
a model *q* scores total bits over total bytes. By the law of large numbers and Gibbs' inequality

.. math:: \frac{\sum_n -\log_2 q(x_n)}{\sum_n |x_n|} \;\to\;
          \frac{E[-\log_2 q]}{E[\text{bytes}]} \;\ge\;
          \frac{H}{E[\text{bytes}]} .

The mean of each story's own ratio would give a byte of a short story more weight than a byte of a
long one; no loss averaged over tokens does that.

References:
  Shannon, 1948, A Mathematical Theory of Communication, section 6 (the entropy of a choice
  broken into successive choices) and theorem 9 (the floor).
  Cover and Thomas, 2006, Elements of Information Theory, theorems 2.5.1 (chain rule) and 2.6.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lmcore.synthetic.grammar import Draw, Entry, Grammar, Part, Recall, Text, inflect


def distribution(case: Sequence[Entry]) -> Iterator[tuple[Entry, float]]:
    """Each entry of one case with its probability there."""
    total = sum(entry.weight for entry in case)
    return ((entry, entry.weight / total) for entry in case)


def marginal(grammar: Grammar, variable: str | None) -> dict[str, float]:
    r"""Probability of each word of a variable, :math:`P(x) = \sum_u P(u) P(x \mid u)`.

    Args:
      grammar: where the variable and its parents are declared.
      variable: its name; None, the parent of a variable without one, is always ``""``.

    Returns:
      Word to probability; they sum to one.

    Example:
      >>> from lmcore.synthetic.grammar import Variable
      >>> pet = Variable("pet", {"": (Entry("cat"), Entry("dog"))})
      >>> sizes = {"cat": (Entry("small"),), "dog": (Entry("small"), Entry("big"))}
      >>> marginal(Grammar({"pet": pet, "size": Variable("size", sizes, "pet")}, ()), "size")
      {'small': 0.75, 'big': 0.25}
    """
    if variable is None:
        return {"": 1.0}
    declared = grammar.variables[variable]
    terms: dict[str, list[float]] = {}
    for above, reach in marginal(grammar, declared.parent).items():
        for entry, probability in distribution(declared.cases[above]):
            terms.setdefault(entry.word, []).append(reach * probability)
    return {word: math.fsum(probabilities) for word, probabilities in terms.items()}


def entropy_bits(weights: Sequence[int]) -> float:
    """Entropy of integer weights in bits: of (1, 1) it is 1.0."""
    total = sum(weights)
    return -math.fsum(weight / total * math.log2(weight / total) for weight in weights)


def expected_bits(grammar: Grammar) -> float:
    """Entropy of a story in bits: the H of this module's introduction.

    Args:
      grammar: an unambiguous grammar (of an ambiguous one this is the entropy of derivations,
        which is more than the entropy of texts).

    Returns:
      Bits a story; no code and no model spends fewer on average.

    Example:
      >>> from lmcore.synthetic.grammar import Choice
      >>> expected_bits(Grammar({}, (Choice(((Text("yes"),), (Text("no"),)), (1, 1)),)))
      1.0

    References:
      Shannon, 1948, section 6.
    """
    return _expectation(
        grammar.story,
        of_text=lambda text: 0.0,
        of_draw=partial(_draw_bits, grammar),
        of_recall=lambda variable, form: 0.0,
        of_choice=entropy_bits,
    )


def expected_bytes(grammar: Grammar) -> float:
    """Mean length of a story in UTF-8 bytes, by the same recursion as :func:`expected_bits`.

    Args:
      grammar: any valid grammar.

    Returns:
      Bytes a story.

    Example:
      >>> from lmcore.synthetic.grammar import Choice
      >>> expected_bytes(Grammar({}, (Choice(((Text("yes"),), (Text("no"),)), (1, 1)),)))
      2.5
    """
    shown = partial(_shown_bytes, grammar)
    return _expectation(
        grammar.story,
        of_text=lambda text: float(len(text.encode())),
        of_draw=shown,
        of_recall=shown,
        of_choice=lambda weights: 0.0,
    )


def _expectation(
    parts: Sequence[Part],
    *,
    of_text: Callable[[str], float],
    of_draw: Callable[[str, str], float],
    of_recall: Callable[[str, str], float],
    of_choice: Callable[[Sequence[int]], float],
) -> float:
    """Sum over the parts of what each contributes; a choice weighs its alternatives."""
    terms: list[float] = []
    for part in parts:
        if isinstance(part, Text):
            terms.append(of_text(part.text))
        elif isinstance(part, Draw):
            terms.append(of_draw(part.variable, part.form))
        elif isinstance(part, Recall):
            terms.append(of_recall(part.variable, part.form))
        else:
            terms.append(of_choice(part.weights))
            for weight, alternative in zip(part.weights, part.alternatives, strict=True):
                inside = _expectation(
                    alternative,
                    of_text=of_text,
                    of_draw=of_draw,
                    of_recall=of_recall,
                    of_choice=of_choice,
                )
                terms.append(weight / sum(part.weights) * inside)
    return math.fsum(terms)


def _draw_bits(grammar: Grammar, variable: str, form: str) -> float:
    """Entropy of a draw given its parent, whatever the form in which it is shown."""
    declared = grammar.variables[variable]
    above = marginal(grammar, declared.parent).items()
    cases = declared.cases
    return math.fsum(
        reach * entropy_bits([entry.weight for entry in cases[word]]) for word, reach in above
    )


def _shown_bytes(grammar: Grammar, variable: str, form: str) -> float:
    """Mean UTF-8 length of a variable's text in a form."""
    declared = grammar.variables[variable]
    return math.fsum(
        reach * probability * len(inflect(entry, form).encode())
        for word, reach in marginal(grammar, declared.parent).items()
        for entry, probability in distribution(declared.cases[word])
    )
