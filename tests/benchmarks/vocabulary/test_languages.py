"""Languages are those of the file, and no text is measured by what has read it."""

import unicodedata
from collections import Counter

import pytest

from benchmarks.vocabulary import languages
from benchmarks.vocabulary.chart import draw_languages
from benchmarks.vocabulary.texts import DECLARATIONS, SEPARATOR, tidy
from benchmarks.vocabulary.trained import n_tokens, tokenizers
from lmcore.synthetic.stories import stories
from tests.real_text import real_text

# The word for "human" or "right" as the title has it, in some of the languages.
IN_THE_TITLE = {
    "German": "Menschenrechte",
    "Finnish": "ihmisoikeuksien",
    "Welsh": "DYNOL",
    "Indonesian": "Manusia",
    "Somali": "AADANAHA",
    "Basque": "GIZA",
    "Kazakh": "АДАМ",
    "Mongolian": "ХҮНИЙ",
    "Russian": "человека",
    "Ukrainian": "ЛЮДИНІ",
    "Persian": "بشر",
    "Hebrew": "אדם",
    "Hindi": "मानव",
    "Thai": "มนุษย",
    "Chinese": "人权",
    "Japanese": "人権",
}


def test_places_hold_the_languages_named() -> None:
    """Each text is in its script, as long as the others in lines, and some have a known word."""
    documents = [tidy(text) for text in real_text(DECLARATIONS).split(SEPARATOR)]
    assert len({one.place for one in languages.LANGUAGES}) == len(languages.LANGUAGES)
    for one in languages.LANGUAGES:
        text = documents[one.place]
        scripts = Counter(
            unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()
        )
        assert scripts.most_common(1)[0][0] == one.script.upper(), one
        assert 80 <= len(text.splitlines()) <= 110, one
        assert IN_THE_TITLE.get(one.name, "") in text[:200], one


@pytest.fixture(scope="module")
def declarations() -> list[str]:
    """A made text for every place; the second half of each has a word of its own."""
    n = max(one.place for one in languages.LANGUAGES) + 1
    found = list(stories(seed=0, start=0, count=n))
    return [f"{text}\n{text} qqqqqqqq qqqqqqqq" for text in found]


def test_no_half_is_measured_by_what_has_read_it(declarations: list[str]) -> None:
    """A word of the second halves is a token of the vocabulary that measures the first alone."""
    first, second = languages.two_folds(declarations, 600)
    assert any(b"qq" in token for token in first.vocab)
    assert not any(b"qq" in token for token in second.vocab)


def test_every_language_is_counted(declarations: list[str], tmp_path) -> None:
    """Tokens are those of both halves; English is drawn at 1, and the picture repeats."""
    made = tokenizers(declarations, [400])[400]
    whole = tokenizers(declarations, [400], "whitespace")[400]
    found = languages.told(declarations, made, (made, made), (whole, whole))
    assert [one.language for one in found] == list(languages.LANGUAGES)
    for one in found:
        text = declarations[one.language.place]
        assert one.n_bytes == len(text.encode())
        assert one.novels == one.many
        assert abs(one.novels - n_tokens(made, text)) <= 1  # the cut may fall in white space
    draw_languages(found, tmp_path / "one.svg")
    draw_languages(found, tmp_path / "two.svg")
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert all(f">{one.name}<".encode() in drawn for one in languages.LANGUAGES)


def test_the_greater_its_share_the_longer_its_tokens() -> None:
    """A language of which more was read is written in fewer tokens, and English in more."""
    greek = "το δικαίωμα της ελευθερίας και της ζωής\n" * 40
    english = "\n".join(stories(seed=0, start=0, count=2_000))
    texts = [*[""] * languages.ENGLISH.place, english[:5_000], greek]
    place = languages.ENGLISH.place + 1
    found = languages.shares(texts, english, 280, (0.001, 0.1, 0.9), place)
    assert [one.share for one in found] == [0.001, 0.1, 0.9]
    assert found[0].language < found[1].language < found[2].language
    assert found[0].english > found[2].english
