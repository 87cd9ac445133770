"""The settings of the tokenizer, and what can be wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmcore.errors import InputError
from lmcore.tokenizer.pretokenize import PATTERNS, Pattern

BYTES = 256

DEFAULT_SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>")


@dataclass(frozen=True)
class TokenizerConfig:
    """What a tokenizer is trained to be.

    Example:
      >>> TokenizerConfig(vocab_size=10_000).pattern
      'gpt2'
    """

    vocab_size: int = 32_000
    """Number of tokens: the special tokens, the 256 bytes, and one for each new merge."""

    special_tokens: tuple[str, ...] = DEFAULT_SPECIAL_TOKENS
    """Strings that are one token each, split the text, and are never merged; they take the first
    ids, in this order."""

    pattern: Pattern = "gpt2"
    """How text is cut into pre-tokens, which merges never cross: as GPT-2, as GPT-4 (cl100k), at
    white space, or not at all."""


def faults(config: TokenizerConfig) -> list[str]:
    """Everything wrong with ``config``, a message each; empty if it can be used.

    Example:
      >>> faults(TokenizerConfig(vocab_size=10, special_tokens=()))[0]
      'vocab_size is 10: it must be at least 256 (256 bytes + 0 special tokens); raise \
--tokenizer.vocab-size or drop special tokens'
    """
    found = special_token_faults(config.special_tokens)
    if not found:  # without them the smallest vocab_size is not known
        found = vocab_size_faults(config.vocab_size, len(config.special_tokens))
    if config.pattern not in PATTERNS:
        found.append(
            f"pattern is {config.pattern!r}: it must be one of {', '.join(PATTERNS)}; "
            "set --tokenizer.pattern to one of them"
        )
    return found


def checked_config(
    vocab_size: int, special_tokens: Sequence[str], pattern: Pattern
) -> TokenizerConfig:
    """The config of these settings, or one InputError that lists all their faults."""
    # A single str would pass for a sequence of one-letter tokens: it stays a str, a fault.
    tokens = special_tokens if isinstance(special_tokens, str) else tuple(special_tokens)
    config = TokenizerConfig(vocab_size, tokens, pattern)  # type: ignore[arg-type]
    if found := faults(config):
        raise InputError("\n".join(found))
    return config


def vocab_size_faults(vocab_size: int, n_special: int) -> list[str]:
    """What is wrong with a vocabulary size, given the number of special tokens."""
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool):
        return [
            f"vocab_size is {vocab_size!r}, a {type(vocab_size).__name__}: it must be an int; "
            "give --tokenizer.vocab-size a whole number"
        ]
    smallest = BYTES + n_special
    if vocab_size < smallest:
        return [
            f"vocab_size is {vocab_size}: it must be at least {smallest} ({BYTES} bytes + "
            f"{n_special} special tokens); raise --tokenizer.vocab-size or drop special tokens"
        ]
    return []


def special_token_faults(special_tokens: Sequence[str]) -> list[str]:
    """What is wrong with a list of special tokens: not strings, empty, repeated, not UTF-8."""
    if isinstance(special_tokens, str):
        return [
            f"special_tokens is the str {special_tokens!r}: it must be a tuple of str; "
            "put a single one in a tuple"
        ]
    tokens = list(special_tokens)
    if wrong := [token for token in tokens if not isinstance(token, str)]:
        return [f"special_tokens holds {wrong[0]!r}: each must be a str; give strings only"]
    return [
        f"special_tokens[{index}] is {token!r}: {fault} in --tokenizer.special-tokens"
        for index, token in enumerate(tokens)
        for fault in _special_token_fault(token, tokens[:index])
    ]


def _special_token_fault(token: str, earlier: list[str]) -> list[str]:
    """Why ``token`` cannot follow the ``earlier`` ones."""
    if not token:
        return ["it must not be empty; remove it"]
    if token in earlier:
        return [f"it already is special_tokens[{earlier.index(token)}]; give each one once"]
    if any("\ud800" <= character <= "\udfff" for character in token):
        return ["it holds a lone surrogate, which has no UTF-8 bytes; replace it"]
    return []
