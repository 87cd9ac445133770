"""Proof that no text can be derived in two ways.

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

from lmcore.synthetic.grammar import Grammar, inflect
from lmcore.synthetic.program import ChoiceNode, DrawNode, Node, RecallNode, TextNode, link


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


def ambiguities(grammar: Grammar) -> Iterator[str]:
    """Each decision of which two alternatives can write the same characters, as a message.

    Args:
      grammar: a grammar that is well formed (:mod:`lmcore.synthetic.validation`).

    Yields:
      One message for each such decision; none for an unambiguous grammar.

    Raises:
      InputError: the story asks for a form that an entry lacks.

    Example:
      >>> from lmcore.synthetic.notation import read
      >>> len(list(ambiguities(Grammar({}, read("[a|ab][b|bb].")))))
      1

    References:
      Sardinas and Patterson, 1953.
    """
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
    pairs: Sequence[_Pair], texts: Mapping[tuple[str, str], list[str]], of_what: str
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


def _advance(pair: _Pair, texts: Mapping[tuple[str, str], list[str]]) -> Iterator[_Pair]:
    """The pairs after the one behind takes a step; those that differ in a character drop out."""
    for text, following in _steps(pair.behind, texts):
        if text.startswith(pair.lead):
            written = pair.written + pair.lead
            yield _Pair(pair.ahead, following, text[len(pair.lead) :], written)
        elif pair.lead.startswith(text):
            yield _Pair(following, pair.ahead, pair.lead[len(text) :], pair.written + text)


def _steps(
    node: Node | None, texts: Mapping[tuple[str, str], list[str]]
) -> Iterator[tuple[str, Node | None]]:
    """Every text that a node may write, with the node that follows."""
    if isinstance(node, ChoiceNode):
        yield from (("", branch) for _, branch in node.branches)
    elif isinstance(node, TextNode):
        yield node.text, node.next
    elif node is not None:
        yield from ((text, node.next) for text in texts[node.variable, node.form])


def _texts_by_form(grammar: Grammar) -> dict[tuple[str, str], list[str]]:
    """All that a variable can show in a form, whatever its parent."""
    texts: dict[tuple[str, str], list[str]] = {}
    for node in _nodes(link(grammar)):
        if isinstance(node, DrawNode | RecallNode):
            entries = chain.from_iterable(grammar.variables[node.variable].cases.values())
            shown = {inflect(entry, node.form) for entry in entries}
            texts[node.variable, node.form] = sorted(shown)
    return texts


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
