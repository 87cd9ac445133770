r"""Every code point there is, in every place that a pattern could treat otherwise.

The oracle is the `regex` package, where it gives a code point the class of Unicode 16.0: it takes
thousands that are not assigned for letters. With tiktoken and Hugging Face tokenizers, which have
our Unicode version, all are compared in `test_interop_peers.py`.
"""

import unicodedata
from functools import cache

import pytest
import regex

from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.pretokenize import PATTERNS, pre_tokens
from lmcore.tokenizer.unicode_classes import CharacterClass, ranges

CLASSES: dict[CharacterClass, str] = {"L": r"\p{L}", "N": r"\p{N}", "s": r"\s"}
EVERY_CODE_POINT = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)


@cache
def differently_known() -> frozenset[str]:
    """The code points that `regex` puts into another class."""
    different: set[str] = set()
    for name, source in CLASSES.items():
        ours = {chr(c) for first, last in ranges(name) for c in range(first, last + 1)}
        different |= ours ^ set(regex.findall(source, EVERY_CODE_POINT))
    return frozenset(different)


def test_the_package_knows_all_that_is_pinned():
    """It has all our letters, numbers and white space; what it has besides is not assigned."""
    for name, source in CLASSES.items():
        ours = {chr(c) for first, last in ranges(name) for c in range(first, last + 1)}
        assert ours <= set(regex.findall(source, EVERY_CODE_POINT))
    assert {unicodedata.category(c) for c in differently_known()} <= {"Cn"}


def beside_everything(c: str) -> str:
    """A code point behind and before a letter, a number, a sign, each white space, itself."""
    return f"x{c}y{c}1{c}2 {c}!{c}? {c} \n{c}\n\t{c}{c}'{c}'s{c}"


def beside_little(c: str) -> str:
    """A code point behind a letter, a number, a space, and before others."""
    return f"x{c}y 1{c} {c}\n"


@pytest.mark.parametrize("pattern", list(PATTERNS))
@pytest.mark.parametrize(
    ("step", "placed"),
    [(97, beside_everything), pytest.param(1, beside_little, marks=pytest.mark.slow)],
)
def test_every_code_point_is_cut_as_the_regex_package_cuts_it(pattern, step, placed):
    """By the definition, and on arrays: the pre-tokens are those of `regex`, in all places."""
    known = [c for c in EVERY_CODE_POINT[::step] if c not in differently_known()]
    find = regex.compile(PATTERNS[pattern]).findall
    for start in range(0, len(known), 50_000):
        text = "".join(map(placed, known[start : start + 50_000]))
        expected = find(text)
        assert pre_tokens(text, pattern) == expected
        if pattern == "gpt2":
            cut, raw = cut_gpt2([text]), text.encode()
            ends = (cut.starts + cut.lengths).tolist()[:-1]  # less the barrier
            found = [raw[a:b] for a, b in zip(cut.starts.tolist(), ends, strict=False)]
            assert found == [word.encode() for word in expected]
