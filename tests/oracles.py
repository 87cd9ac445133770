"""Slow, obvious or foreign versions of what the project does, a section for each part."""

import regex

from lmcore.tokenizer.unicode_classes import ranges

# --- tokenizer ------------------------------------------------------------------------------


def pre_tokens_by_regex(text: str, source: str) -> list[str]:
    """What the ``regex`` library finds, with its own tables of character classes."""
    return regex.findall(source, text)


def known_alike(text: str) -> bool:
    """Whether ``regex`` and the project put every character of ``text`` into the same class.

    They differ on what newer Unicode versions have assigned.
    """
    return all(
        bool(regex.match(source, character)) == (ord(character) in _CLASSES[name])
        for character in text
        for name, source in (("L", r"\p{L}"), ("N", r"\p{N}"), ("s", r"\s"))
    )


_CLASSES = {
    name: {code for first, last in ranges(name) for code in range(first, last + 1)}
    for name in ("L", "N", "s")
}
