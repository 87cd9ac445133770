r"""Cut text into pre-tokens: the pieces that a merge may never cross.

Two cuts are made, in this order. Special tokens are cut out first, the longest first where two
begin at one place. What lies between them is cut by one of the patterns of `PATTERNS`. Nothing is
lost: the pieces, joined, are the text.

The patterns are written with ``\p{L}`` (letters), ``\p{N}`` (numbers) and ``\s`` (white space), and
compiled for the standard library's ``re`` from the project's own table of classes, so that their
meaning never changes with a library's version. A text without characters beyond U+FFFF is matched
with sets cut to that plane: ``re`` walks the rest one range at a time (2.6 s for 10 MB of English
with the full sets, 0.47 s with the cut ones).

References:
  Radford et al., 2019, Language Models are Unsupervised Multitask Learners, section 2.2.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Literal

from lmcore.errors import InputError
from lmcore.tokenizer.unicode_classes import CharacterClass, ranges

Pattern = Literal["gpt2", "gpt4", "whitespace", "none"]

PATTERNS: dict[Pattern, str] = {
    # English contractions; letters, numbers or other signs, each with the space before them; the
    # last white-space character before a word stays with the word when it is a space.
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # As cl100k_base: contractions in either case, a word takes any one sign before it, numbers in
    # groups of three, newlines on their own.
    "gpt4": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    ),
    # What stands between white space, with the space before it: the simplest lossless rule.
    "whitespace": r" ?\S+|\s+(?!\S)|\s+",
    # The whole text is one pre-token: merges may cross words.
    "none": r"(?s:.+)",
}

# Two neighbouring characters between which the pattern always cuts, whatever stands before or
# after them. After a letter (or number) comes another class: every alternative that takes a letter
# goes on taking letters and stops there. A sign followed by white space: no alternative goes on,
# but for the newlines that gpt4 keeps with signs. The end of the text would do the same.
SAFE_CUTS: dict[Pattern, str] = {
    "gpt2": r"\p{L}[^\p{L}]|\p{N}[^\p{N}]|\S\s",
    "gpt4": r"\p{L}[^\p{L}]|\p{N}[^\p{N}]|\S(?![\r\n])\s",
    "whitespace": r"\S\s",
    "none": r"(?!)",
}

_TRIES = 16  # spaces looked at before the expression is
_SEARCHED_FIRST = 256  # characters that the expression sees, from the end


def pre_tokens(text: str, pattern: Pattern = "gpt2") -> list[str]:
    """The pre-tokens of ``text``, in order; joined, they are ``text``.

    Special tokens are not looked for: `split_special` cuts them out first.

    Args:
      text: any str.
      pattern: a name from `PATTERNS`.

    Raises:
      InputError: ``pattern`` is not one of them.

    Example:
      >>> pre_tokens("It's 12 o'clock,  Ann.")
      ['It', "'s", ' 12', ' o', "'", 'clock', ',', ' ', ' Ann', '.']
    """
    return _compiled(PATTERNS[known_pattern(pattern)], _in_basic_plane(text)).findall(text)


def split_special(text: str, special_tokens: Sequence[str] = ()) -> list[str]:
    """Cut ``text`` at the special tokens: plain text at even places, special tokens at odd ones.

    Args:
      text: any str.
      special_tokens: the strings to find; the leftmost is cut out first, the longest of those
        that begin at one place.

    Returns:
      an odd number of strings that join to ``text``; plain pieces may be empty.

    Example:
      >>> split_special("a<eos><eos>!b", ("<eos>", "<eos>!"))
      ['a', '<eos>', '', '<eos>!', 'b']
    """
    finder = special_finder(tuple(special_tokens))
    return finder.split(text) if finder else [text]


@cache
def special_finder(special_tokens: tuple[str, ...]) -> "re.Pattern[str] | None":
    """The expression, with one group, that finds the special tokens; None where there are none."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if special_tokens else None


def safe_cut(text: str, low: int, high: int, pattern: Pattern) -> int:
    """A late place p, ``low < p <= high < len(text)``, where no pre-token crosses; 0 if none is.

    Cut there, the two parts have the pre-tokens of the whole, whatever follows ``text``. A space
    after something else is such a place in every pattern but none, and is found at once; the
    expression, which takes 0.1 s to compile, sees only texts that have none.
    """
    space = max(high, 0) + 1  # a negative end would count from the right
    for _ in range(_TRIES if pattern != "none" else 0):
        space = text.rfind(" ", max(low, 0) + 1, space)
        # What Python does not take for white space, the table does not either.
        if space > 0 and not text[space - 1].isspace():
            return space
        if space < 0:
            break
    low, n = max(low, 0), _SEARCHED_FIRST
    while high > low and pattern != "none":
        start = max(low, high - n)
        part = text[start : high + 1]
        cuts = [match.start() for match in _safe_cuts(pattern, part).finditer(part)]
        if cuts:
            return start + cuts[-1] + 1
        high, n = start, 2 * n  # twice as much, so that few searches see all of a long text
    return 0


def _safe_cuts(pattern: Pattern, text: str) -> "re.Pattern[str]":
    """The expression for `SAFE_CUTS` that reads this text fastest."""
    return _compiled(SAFE_CUTS[pattern], _in_basic_plane(text))


def known_pattern(pattern: str) -> Pattern:
    """``pattern`` if `PATTERNS` holds it, an InputError otherwise."""
    if pattern not in PATTERNS:
        raise InputError(
            f"the pre-tokenization pattern is {pattern!r}: it must be one of "
            f"{', '.join(PATTERNS)}; set --tokenizer.pattern to one of them"
        )
    return pattern


def checked_texts(texts: Iterable[str], name: str) -> Iterator[str]:
    """``texts`` one by one, each verified to be a str that has UTF-8 bytes."""
    if isinstance(texts, str | bytes):
        raise InputError(
            f"{name} is one {type(texts).__name__}: it must be an iterable of str; "
            "put a single text in a list"
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"item {index} of {name} is a {type(text).__name__}: each must be a str; "
                "decode bytes as UTF-8 first"
            )
        refuse_surrogates(text, f"item {index} of {name}")
        yield text


def refuse_surrogates(text: str, name: str) -> None:
    """An InputError that says where, if ``text`` holds a code point without UTF-8 bytes."""
    if text.isascii():  # known without a look at the text
        return
    try:
        text.encode("utf-16-le")  # finds what UTF-8 would, several times as fast
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}: it has no UTF-8 bytes; replace it, for example by U+FFFD"
        ) from None


def _in_basic_plane(text: str) -> bool:
    """Whether no character lies beyond U+FFFF (1 GB/s; ``max(text)`` takes 20 ns a character)."""
    return text.isascii() or len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text)


@cache
def _compiled(pattern: str, basic_plane: bool) -> "re.Pattern[str]":
    """``pattern`` for ``re``, its classes written out from the table."""
    last = 0xFFFF if basic_plane else 0x10FFFF
    letters, numbers, spaces = (_set_body(name, last) for name in ("L", "N", "s"))
    inside = {r"\p{L}": letters, r"\p{N}": numbers, r"\s": spaces}
    outside = {key: f"[{body}]" for key, body in inside.items()} | {r"\S": f"[^{spaces}]"}
    parts = re.split(r"(\[[^\]]*\])", pattern)  # bracketed sets at odd places
    return re.compile(
        "".join(_replace(p, inside if i % 2 else outside) for i, p in enumerate(parts))
    )


def _replace(text: str, table: dict[str, str]) -> str:
    """``text`` with each key of ``table`` replaced, in one pass."""
    return re.sub("|".join(map(re.escape, table)), lambda match: table[match[0]], text)


def _set_body(name: CharacterClass, last: int) -> str:
    """The ranges of a class up to ``last``, as they stand between brackets."""
    spans = [(a, min(b, last)) for a, b in ranges(name) if a <= last]
    return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in spans)
