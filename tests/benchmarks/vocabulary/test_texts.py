"""The texts that are measured are the ones named, and typing errors are only that."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from benchmarks.vocabulary import texts
from lmcore.errors import InputError
from lmcore.synthetic.stories import stories
from lmcore.tokenizer.pretokenize import pre_tokens

TEXT = "\n\n".join(stories(seed=0, start=0, count=100))


def test_a_typing_error_moves_a_letter_and_nothing_else() -> None:
    """One long word of ten has two neighbouring letters swapped; all else is as it was."""
    wrong = texts.with_typos(TEXT)
    pairs = list(zip(pre_tokens(TEXT), pre_tokens(wrong), strict=True))
    assert all(Counter(a) == Counter(b) for a, b in pairs)
    assert all(a.strip()[:1] == b.strip()[:1] for a, b in pairs)
    long = [(a, b) for a, b in pairs if len(a.strip()) >= 4 and a.strip().isalpha()]
    changed = sum(a != b for a, b in long)
    # Drawn with 1/10; a swap of two equal letters (`book`) shows as none. 5 standard errors of
    # some 5,000 draws are 0.02.
    assert 0.07 < changed / len(long) < 0.12
    assert wrong == texts.with_typos(TEXT) != texts.with_typos(TEXT, seed=1)


@given(st.text("a \n"))
def test_halves_are_the_text(text: str) -> None:
    """No character is lost between the halves, and they differ by one line at most."""
    first, second = texts.halves(text)
    assert first + second == text
    assert 0 <= len(second.splitlines()) - len(first.splitlines()) <= 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which file the folder must hold."""
    with pytest.raises(InputError, match=f"must be a folder that holds {texts.DECLARATIONS}"):
        texts.read_texts(tmp_path)


def test_other_declarations_are_refused(tmp_path: Path) -> None:
    """Places of languages are those of one file; in another they would name other languages."""
    (tmp_path / texts.DECLARATIONS).write_text("other")
    with pytest.raises(InputError, match="another file than the one whose languages are known"):
        texts.read_texts(tmp_path)
