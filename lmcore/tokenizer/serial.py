r"""A tokenizer as a JSON value that a person can read, and back, exactly.

A token is written as its text. What cannot be shown, or seen, is escaped: a byte that is not
UTF-8, a control character, white space other than the plain space, and invisible format
characters become ``\xNN``, byte by byte, and a backslash is doubled. So the space before a word
stays a space, and every bytes value has one writing, which reads back to it.

The layout, version 1::

    {"format": "lmcore-tokenizer", "version": 1, "pattern": "gpt2", "unicode": "16.0.0",
     "special_tokens": ["<eos>"],
     "vocab": ["<eos>", "\\x00", ..., " the"],      the place is the id
     "merges": [["t", "h"], ...]}                   in order; each makes its two parts joined
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmcore.errors import InputError
from lmcore.tokenizer.pretokenize import known_pattern
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.tokenizer.unicode_classes import UNICODE_VERSION

FORMAT = "lmcore-tokenizer"
VERSION = 1

# Control characters, white space but " ", format characters (soft hyphen, zero width, direction
# marks, byte order mark) and the two separators: fixed here, so that the same value is always
# written the same, whatever Unicode version the running Python has.
_UNSEEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\xa0\\xad\\u1680\\u180e\\u2000-\\u200f\\u2028-\\u202f"
    "\\u205f-\\u206f\\u3000\\ufeff]"
)
_WRITTEN = re.compile(r"\\\\|\\x[0-9a-f]{2}|[^\\]+|\\", re.DOTALL)


def to_json_value(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer as a value of dicts, lists, strings and numbers (see the layout above).

    Example:
      >>> to_json_value(Tokenizer([bytes([b]) for b in range(256)], {}))["vocab"][63:67]
      ['?', '@', 'A', 'B']
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "pattern": tokenizer.pattern,
        "unicode": UNICODE_VERSION,
        "special_tokens": list(tokenizer.special_tokens),
        "vocab": [shown(token) for token in tokenizer.vocab],
        "merges": [[shown(left), shown(right)] for left, right in tokenizer.merges],
    }


def from_json_value(value: Any) -> Tokenizer:
    """The tokenizer that `to_json_value` wrote.

    Args:
      value: what reading the JSON gave.

    Raises:
      InputError: something is missing, of another type, or does not fit the rest; the message
        names the entry.

    Example:
      >>> tokenizer = Tokenizer([bytes([b]) for b in range(256)] + [b"th"], {(b"t", b"h"): b"th"})
      >>> from_json_value(to_json_value(tokenizer)) == tokenizer
      True
    """
    if not isinstance(value, Mapping):
        raise InputError(f"a tokenizer must be a JSON object; this is a {_json_type(value)}")
    _expect(value, "format", FORMAT)
    _expect(value, "version", VERSION)
    _expect(value, "unicode", UNICODE_VERSION)
    pattern = _entry(value, "pattern")
    if not isinstance(pattern, str):
        raise InputError(f"pattern is a {_json_type(pattern)}: it must be a string")
    special_tokens = _strings(_entry(value, "special_tokens"), "special_tokens")
    vocab = _tokens(_entry(value, "vocab"), "vocab")
    merges: dict[tuple[bytes, bytes], bytes] = {}
    for rank, written in enumerate(_list(_entry(value, "merges"), "merges")):
        pair = _tokens(written, f"merges[{rank}]")
        if len(pair) != 2:
            raise InputError(f"merges[{rank}] has {len(pair)} parts: it must have two")
        if (pair[0], pair[1]) in merges:
            raise InputError(f"merges[{rank}] is {written!r}: that pair was merged before")
        merges[pair[0], pair[1]] = pair[0] + pair[1]
    return Tokenizer(vocab, merges, tuple(special_tokens), known_pattern(pattern))


def shown(token: bytes) -> str:
    r"""A token as a person can read it.

    Example:
      >>> [shown(token) for token in (b" the", b"\n", b"\xc3\xa9", b"\xc3", b"\\")]
      [' the', '\\x0a', 'é', '\\xc3', '\\\\']
    """
    text = token.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return _UNSEEN.sub(lambda match: "".join(f"\\x{b:02x}" for b in match[0].encode()), text)


def unshown(text: str) -> bytes:
    r"""The token that was shown as ``text``.

    Raises:
      InputError: a backslash begins neither ``\\`` nor ``\xNN``, or a character has no UTF-8 bytes.

    Example:
      >>> unshown(r"\xc3\xa9 \\")
      b'\xc3\xa9 \\'
    """
    return b"".join(_unshown_part(match[0]) for match in _WRITTEN.finditer(text))


def _unshown_part(part: str) -> bytes:
    if part == "\\":
        raise InputError(r"a backslash must be followed by a backslash, or by x and two of 0-9a-f")
    if part.startswith("\\"):
        return b"\\" if part == "\\\\" else bytes([int(part[2:], 16)])
    try:
        return part.encode()
    except UnicodeEncodeError:
        raise InputError("a lone surrogate has no UTF-8 bytes") from None


def _expect(value: Mapping[str, Any], name: str, expected: object) -> None:
    found = _entry(value, name)
    if found != expected or isinstance(found, bool):
        raise InputError(
            f"{name} is {found!r}: this version reads {expected!r}; train the tokenizer again, "
            "or use the version that wrote it"
        )


def _entry(value: Mapping[str, Any], name: str) -> Any:
    if name not in value:
        present = ", ".join(map(str, value)) or "none"
        raise InputError(f"the tokenizer lacks the entry {name!r}; it has {present}")
    return value[name]


def _list(value: Any, name: str) -> list:
    if not isinstance(value, list):
        raise InputError(f"{name} is a {_json_type(value)}: it must be a list")
    return value


def _strings(value: Any, name: str) -> list[str]:
    for index, item in enumerate(_list(value, name)):
        if not isinstance(item, str):
            raise InputError(f"{name}[{index}] is a {_json_type(item)}: it must be a string")
    return value


def _tokens(value: Any, name: str) -> list[bytes]:
    tokens: list[bytes] = []
    for index, text in enumerate(_strings(value, name)):
        try:
            tokens.append(unshown(text))
        except InputError as error:
            raise InputError(f"{name}[{index}] is {text!r}: {error}") from None
    return tokens


def _json_type(value: object) -> str:
    names: Sequence[tuple[type, str]] = (
        (bool, "boolean"),
        (int, "number"),
        (float, "number"),
        (str, "string"),
        (list, "list"),
        (dict, "object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")
