r"""The cuts of the gpt2 pattern on arrays of bytes: the twin of `pretokenize.pre_tokens`.

The pattern as rules about neighbouring characters, each one comparison over the whole text:

- a pre-token begins where the class changes (letter, number, other sign, white space);
- the last character of white space before something else begins one, and when it is a plain space
  that something goes on with it (`` ?\p{L}+`` and its like; ``\s+(?!\S)`` leaves the last one);
- where an apostrophe begins a pre-token and s, d, m, t, ll, ve or re follow, the cut after the
  apostrophe moves behind them.

What makes it fast:

- It works on the UTF-8 bytes, one byte a class: a character has the class of its first byte, and
  so have the bytes that go on with it. `bytes.translate` gives the classes of ASCII (1.7 GB/s), and
  only the other characters are decoded and looked up.
- The classes are numbered so that one exclusive or tells whether two belong together.
- Texts are laid side by side with a `BARRIER` after each, a byte that UTF-8 never has: it ends what
  stands before it as the end of a text does. So many short texts cost what one long text costs.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.unicode_classes import CharacterClass, ranges

BARRIER = b"\xff"
PADDING = bytes(16)  # so that 16 bytes can be read from any place

# Two classes differ by more than the last bit where a pre-token begins between them. White space
# and END, the class of barriers, have the bit WHITE in common.
LETTER, NUMBER, OTHER, WHITE, SPACE, END = 2, 4, 6, 8, 9, 24


class CutText(NamedTuple):
    """Pre-tokens of some texts, as places in their bytes.

    Runs of barriers stand among them as if they were some, one or two for each run: leaving them
    out would cost more than they do (`barriers` tells which they are).

    raw: the UTF-8 bytes of the texts, a barrier after each, then 16 zero bytes.
    starts: where each pre-token begins in ``raw``, int64, ascending.
    lengths: bytes of each pre-token, int64.
    ends: how many of them stand before the end of each text, int64 ``[n_texts]``.
    """

    raw: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    ends: NDArray[np.int64]

    def barriers(self) -> NDArray[np.int64]:
        """Which of the pre-tokens are runs of barriers; some perhaps named twice."""
        place = np.minimum(self.ends, len(self.starts) - 1)
        return place[self.raw.take(self.starts.take(place)) == BARRIER[0]]


def cut_gpt2(texts: Sequence[str]) -> CutText:
    """Cut each of ``texts`` by the gpt2 pattern.

    Args:
      texts: strings without surrogates; each stands for itself.

    Returns:
      the pre-tokens of all of them, in order.

    Example:
      >>> cut = cut_gpt2(["it's", "a  b"])
      >>> [bytes(cut.raw[s : s + n]) for s, n in zip(cut.starts, cut.lengths)]
      [b'it', b"'s", b'\xff', b'a', b' ', b' b', b'\xff']
      >>> cut.ends
      array([2, 6])
    """
    parts = [text.encode() for text in texts]
    encoded = side_by_side(parts)
    raw = np.frombuffer(encoded, np.uint8)
    kind = np.frombuffer(encoded.translate(_ascii_classes()), np.uint8)[: -len(PADDING)]
    is_ascii = all(map(str.isascii, texts))
    if not is_ascii:
        kind = kind.copy()
        _classify_others(raw, kind)
    starts = np.flatnonzero(_begins(raw, kind, is_ascii))
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = len(kind) - starts[-1:]
    barriers = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) + 1) - 1
    return CutText(raw, starts, lengths, np.searchsorted(starts, barriers))


def side_by_side(parts: Sequence[bytes]) -> bytes:
    """The bytes of texts, a barrier after each, and the padding."""
    return b"".join([piece for part in parts for piece in (part, BARRIER)]) + PADDING


def _classify_others(raw: NDArray[np.uint8], kind: NDArray[np.uint8]) -> None:
    """Write the classes of the characters beyond ASCII, in place."""
    table = class_table()
    for length, low, high in ((2, 0xC0, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0xF8)):
        place = np.flatnonzero((raw >= low) & (raw < high))
        if not len(place):
            continue
        code = raw[place].astype(np.int32) & (0x7F >> length)
        for step in range(1, length):
            code = (code << 6) | (raw[place + step] & 0x3F)
        found = table[code]
        for step in range(length):
            kind[place + step] = found


def _begins(raw: NDArray[np.uint8], kind: NDArray[np.uint8], is_ascii: bool) -> NDArray[np.bool_]:
    """Whether a pre-token, or a run of barriers, begins at each byte."""
    begins = np.ones(len(kind), bool)
    np.greater(kind[1:] ^ kind[:-1], 1, out=begins[1:])
    # 1 where the last of some white space, or of some barriers, stands before something else.
    last = kind[:-1] & ~kind[1:]
    last &= WHITE
    last >>= 3
    begins[:-1] |= last.view(bool)
    # 0 where that is a plain space: what follows has begun with it.
    on_its_own = last & kind[:-1]
    on_its_own ^= 1
    begins[1:] &= on_its_own.view(bool)
    if not is_ascii and len(wide := np.flatnonzero(last.view(bool) & (raw[: len(last)] >= 0x80))):
        _begin_at_first_byte(raw, wide, begins)
    _move_behind_contractions(raw, begins)
    return begins


def _begin_at_first_byte(
    raw: NDArray[np.uint8], last: NDArray[np.int64], begins: NDArray[np.bool_]
) -> None:
    """Move the cut from the last byte of each character to its first one, in place."""
    begins[last] = False
    first = last
    for _ in range(3):  # a byte that goes on with a character is 10xxxxxx
        first = first - ((raw[first] & 0xC0) == 0x80)
    begins[first] = True


def _move_behind_contractions(raw: NDArray[np.uint8], begins: NDArray[np.bool_]) -> None:
    """Move the cut inside each contraction to its end, in place."""
    quote = np.flatnonzero(raw[: len(begins)] == ord("'"))
    quote = quote[begins[quote]]
    first, second = raw[quote + 1], raw[quote + 2]
    is_short = _one_of(first, "sdmt")
    is_long = ((first == ord("l")) & (second == ord("l"))) | (
        _one_of(first, "vr") & (second == ord("e"))
    )
    begins[quote[is_short | is_long] + 1] = False
    begins[quote[is_short] + 2] = True  # there is a barrier at the latest
    begins[quote[is_long] + 3] = True


def _one_of(values: NDArray[np.uint8], letters: str) -> NDArray[np.bool_]:
    found = np.zeros(len(values), bool)
    for letter in letters:
        found |= values == ord(letter)
    return found


@cache
def _ascii_classes() -> bytes:
    """The class of each byte that is a character; that of the barrier; OTHER for the rest."""
    table = bytearray(class_table()[:256].tobytes())
    table[0x80:] = bytes([OTHER]) * 128
    table[BARRIER[0]] = END
    return bytes(table)


@cache
def class_table() -> NDArray[np.uint8]:
    """The class of every code point; 1.1 MB, and the part that a text uses stays in cache."""
    table = np.full(0x110000, OTHER, np.uint8)
    kinds: dict[CharacterClass, int] = {"L": LETTER, "N": NUMBER, "s": WHITE}
    for name, kind in kinds.items():
        for first, last in ranges(name):
            table[first : last + 1] = kind
    table[ord(" ")] = SPACE
    table.flags.writeable = False
    return table
