"""Cut a stream of text into pieces that can be pre-tokenized one by one, in bounded memory.

The pre-tokens of the pieces are those of the whole text, wherever the stream was chunked: a piece
ends only at a special token or where no pre-token can cross (`pretokenize.SAFE_CUTS`), and never
where a special token may be beginning.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lmcore.tokenizer.pretokenize import Pattern, safe_cut, special_finder

PIECE_CHARACTERS = 1 << 16
"""How much text is gathered before it is cut: large enough that the cutting costs nothing."""


class Segment(NamedTuple):
    """A piece of text: plain, or one special token."""

    text: str
    is_special: bool


def segments(
    chunks: Iterable[str],
    pattern: Pattern,
    special_tokens: tuple[str, ...],
    size: int = PIECE_CHARACTERS,
) -> Iterator[Segment]:
    """The text that ``chunks`` join to, as segments whose pre-tokens are those of the whole.

    Holds about ``size`` characters, and more only where the text itself has no place to be cut:
    one word, one run of white space or of signs of that length (for gpt4, also of digits; for the
    pattern none, everything between two special tokens). Then it holds twice that length at most.

    Args:
      chunks: strings, cut anywhere, each valid Unicode.
      pattern: the pattern that the segments will be cut by.
      special_tokens: the strings to be found as special tokens.
      size: number of characters to gather before cutting.

    Example:
      >>> [s.text for s in segments(["a b <e", "os>c d"], "gpt2", ("<eos>",), size=6)]
      ['a', ' b ', '<eos>', 'c d']
    """
    held = _Held("", 0)
    waiting: list[str] = []
    n_waiting = 0
    for part in _small(chunks, size):
        waiting.append(part)
        n_waiting += len(part)
        # At least as much as is held: each copy is then twice as long as the last, and all together
        # are a few times the text. Of 10 MB in one word, 64 KiB at a time would copy 800 MB.
        if n_waiting >= max(size, len(held.text)):
            text = "".join((held.text, *waiting))
            found, held = _cut(_Held(text, held.scanned), pattern, special_tokens)
            yield from found
            waiting, n_waiting = [], 0
    yield from _whole("".join((held.text, *waiting)), special_tokens)


class _Held(NamedTuple):
    """Text not yet given out; no cut and no special token was found before ``scanned``."""

    text: str
    scanned: int


def _small(chunks: Iterable[str], size: int) -> Iterator[str]:
    """The same text in strings of at most ``size``."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _cut(
    held: _Held, pattern: Pattern, special_tokens: tuple[str, ...]
) -> tuple[list[Segment], _Held]:
    """The segments that are certain whatever follows, and the rest."""
    text = held.text
    longest = max(map(len, special_tokens), default=1)
    # A special token that begins before `certain` lies wholly in the text, as does any longer one
    # that begins with it. A cut needs the character after it, hence the 1 of the default.
    certain = len(text) - longest + 1 if special_tokens else len(text) - 1
    found: list[Segment] = []
    done = 0
    finder = special_finder(special_tokens)
    for match in finder.finditer(text, held.scanned) if finder else ():
        if match.start() >= certain:
            break
        found += [Segment(text[done : match.start()], False), Segment(match[0], True)]
        done = match.end()
    cut = safe_cut(text, max(done, held.scanned), min(certain, len(text) - 1), pattern)
    if cut:
        found.append(Segment(text[done:cut], False))
        done = cut
    return [s for s in found if s.text], _Held(text[done:], max(certain - done, 0))


def _whole(text: str, special_tokens: tuple[str, ...]) -> Iterator[Segment]:
    """The segments of a text that ends here."""
    finder = special_finder(special_tokens)
    pieces = finder.split(text) if finder else [text]
    return (Segment(piece, bool(i % 2)) for i, piece in enumerate(pieces) if piece)
