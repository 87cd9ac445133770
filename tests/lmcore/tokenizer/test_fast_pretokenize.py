"""Cutting text on arrays, against the pattern."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from lmcore.tokenizer.fast_pretokenize import cut_gpt2
from lmcore.tokenizer.pretokenize import pre_tokens
from tests.strategies import any_text, tricky_text

contractions = st.text("'sdmtlver s\u017f\n1!", max_size=20)


def words_of(texts: list[str]) -> list[list[str]]:
    """The pre-tokens of each text, as they lie side by side."""
    cut = cut_gpt2(texts)
    words = [
        bytes(cut.raw[start : start + length]).decode(errors="replace")
        for start, length in zip(cut.starts, cut.lengths, strict=True)
    ]
    barriers = set(cut.barriers().tolist())
    return [
        [words[i] for i in range(start, end) if i not in barriers]
        for start, end in pairwise([0, *cut.ends])
    ]


@settings(deadline=None, max_examples=400)
@given(st.lists(st.one_of(tricky_text, contractions, any_text), max_size=5))
@example(["'s's'll''re 've\n'd", "it's", "'", "'l", "'ll", "x'", "'t\u00e9"])
@example(["  ", "a  ", "\n a", "", "", " \u3000b", "'"])
def test_every_text_is_cut_as_the_pattern_cuts_it(texts):
    """Laid side by side, texts have the pre-tokens that each has alone, and know their text."""
    assert words_of(texts) == [pre_tokens(text) for text in texts]


def test_every_code_point_is_cut_as_the_pattern_cuts_it():
    """Between letters, spaces and signs, every character has the class that the table gives it."""
    places = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"a{chr(c)} {chr(c)}\n!" for c in places[i::4]) for i in range(4)]
    cut = cut_gpt2(texts)
    ends = np.cumsum([len(word.encode()) for text in texts for word in pre_tokens(text)])
    assert np.array_equal(np.cumsum(np.delete(cut.lengths, cut.barriers())), ends)


@pytest.mark.parametrize("end", ["s", "d", "m", "t", "ll", "ve", "re", "S", "l", "v", "e", "ſ"])
def test_contractions_at_every_place(end):
    """Each ending, and each that only looks like one, at the start, in the middle, at the end."""
    texts = [
        f"'{end}",
        f"a'{end}b",
        f" '{end}",
        f"1'{end}'{end} ",
        f"''{end}",
        f"\n'{end}\n",
        f"a'{end}",
    ]
    assert words_of(texts) == [pre_tokens(text) for text in texts]
