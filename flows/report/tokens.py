"""The texts as tokens, in a table: what the pretokenize stage came to."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flows.stages.pretrain import n_targets


class TokenFigure(NamedTuple):
    """A figure of both texts, as it is shown; empty where a text has none."""

    measure: str
    train: str
    valid: str


def token_table(facts: Mapping[str, Any], trained: int) -> tuple[TokenFigure, ...]:
    """The stage's facts as a table, and how often training on ``trained`` tokens saw the text.

    The longest token is the longest that occurs in the training text, quoted as in Python.

    Example:
      >>> split = {"documents": 2, "tokens": 1000, "bytes": 4147, "bytes_per_token": 4.147}
      >>> facts = {"train": split, "valid": split, "vocab_size": 512, "vocabulary_used": 0.9865}
      >>> facts |= {"longest_token": " you", "longest_token_bytes": 4}
      >>> for figure in token_table(facts, trained=2_004):
      ...     print(figure.measure, figure.train, sep=": ")
      documents: 2
      tokens: 1,000
      bytes of text: 4,147
      bytes a token: 4.147
      longest token: ' you' (4 bytes)
      vocabulary used: 98.7% of 512
      times seen in training: 2.00
    """
    splits = facts["train"], facts["valid"]
    longest = f"{facts['longest_token']!r} ({facts['longest_token_bytes']} bytes)"
    used = f"{facts['vocabulary_used']:.1%} of {facts['vocab_size']:,}"
    return (
        *(
            TokenFigure(name, *(f"{split[key]:{layout}}" for split in splits))
            for name, key, layout in (
                ("documents", "documents", ","),
                ("tokens", "tokens", ","),
                ("bytes of text", "bytes", ","),
                ("bytes a token", "bytes_per_token", ".3f"),
            )
        ),
        TokenFigure("longest token", longest, ""),
        TokenFigure("vocabulary used", used, ""),
        TokenFigure("times seen in training", f"{trained / n_targets(facts['train']):,.2f}", ""),
    )
