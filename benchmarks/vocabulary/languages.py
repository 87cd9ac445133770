"""One text in many languages: how many tokens each takes.

The Universal Declaration of Human Rights says the same in every language, so its tokens can be
compared: with

.. math:: \\frac{n}{n_{en}} = \\frac{b}{b_{en}} \\cdot \\frac{b_{en} / n_{en}}{b / n}

a language takes more tokens than English because its text has more bytes b, or because fewer bytes
make a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

from benchmarks.vocabulary.texts import halves, n_bytes
from benchmarks.vocabulary.trained import n_tokens, tokenizers
from lmcore import Tokenizer
from lmcore.tokenizer.pretokenize import Pattern


@dataclass(frozen=True)
class Language:
    """A language, its script as Unicode's names of characters begin, and its place in the file."""

    name: str
    script: str
    place: int


ENGLISH = Language("English", "Latin", 100)
LANGUAGES = (
    ENGLISH,
    Language("German", "Latin", 89),
    Language("Dutch", "Latin", 241),
    Language("Swedish", "Latin", 324),
    Language("Icelandic", "Latin", 158),
    Language("French", "Latin", 112),
    Language("Spanish", "Latin", 315),
    Language("Italian", "Latin", 159),
    Language("Portuguese", "Latin", 269),
    Language("Romanian", "Latin", 293),
    Language("Polish", "Latin", 266),
    Language("Czech", "Latin", 63),
    Language("Hungarian", "Latin", 145),
    Language("Finnish", "Latin", 109),
    Language("Turkish", "Latin", 351),
    Language("Welsh", "Latin", 85),
    Language("Basque", "Latin", 103),
    Language("Indonesian", "Latin", 157),
    Language("Filipino", "Latin", 335),
    Language("Swahili", "Latin", 325),
    Language("Somali", "Latin", 313),
    Language("Yoruba", "Latin", 382),
    Language("Vietnamese", "Latin", 369),
    Language("Navajo", "Latin", 232),
    Language("Greek", "Greek", 96),
    Language("Russian", "Cyrillic", 297),
    Language("Ukrainian", "Cyrillic", 359),
    Language("Kazakh", "Cyrillic", 166),
    Language("Mongolian", "Cyrillic", 172),
    Language("Georgian", "Georgian", 165),
    Language("Armenian", "Armenian", 149),
    Language("Hebrew", "Hebrew", 135),
    Language("Arabic", "Arabic", 23),
    Language("Persian", "Arabic", 261),
    Language("Hindi", "Devanagari", 137),
    Language("Bengali", "Bengali", 39),
    Language("Tamil", "Tamil", 328),
    Language("Thai", "Thai", 337),
    Language("Khmer", "Khmer", 174),
    Language("Burmese", "Myanmar", 230),
    Language("Tibetan", "Tibetan", 46),
    Language("Amharic", "Ethiopic", 21),
    Language("Korean", "Hangul", 183),
    Language("Japanese", "Hiragana", 162),
    Language("Chinese", "CJK", 73),
)


@dataclass(frozen=True)
class Measured:
    """The declaration in one language.

    n_characters, n_bytes: its length.
    novels: tokens with the vocabulary learned from English novels.
    many: tokens with the vocabulary learned from the declaration in all languages.
    many_whole: the same, words cut at white space only: GPT-2's pattern also cuts a letter from its
      vowel sign or accent, where that is a character of its own.
    n_marks: characters that are such signs (Unicode's category M).
    """

    language: Language
    n_characters: int
    n_bytes: int
    n_marks: int
    novels: int
    many: int
    many_whole: int


Folds = tuple[Tokenizer, Tokenizer]


def told(
    declarations: Sequence[str], english_only: Tokenizer, folds: Folds, whole: Folds
) -> list[Measured]:
    """Measure every language.

    Args:
      declarations: the texts in the order of the file.
      english_only: learned from novels.
      folds, whole: from `two_folds`, the second with words cut at white space only.
    """
    found = []
    for language in LANGUAGES:
        text = declarations[language.place]
        parts = halves(text)
        found.append(
            Measured(
                language,
                len(text),
                n_bytes([text]),
                sum(category(character)[0] == "M" for character in text),
                *(
                    sum(n_tokens(fold, part) for fold, part in zip(made, parts, strict=True))
                    for made in ((english_only, english_only), folds, whole)
                ),
            )
        )
    return found


def two_folds(
    declarations: Sequence[str], size: int, pattern: Pattern = "gpt2"
) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer for each half of the declarations, learned from the other half of all of them.

    So no text is measured with a vocabulary that has read it.
    """
    first, second = zip(*map(halves, declarations), strict=True)
    return tokenizers(second, [size], pattern)[size], tokenizers(first, [size], pattern)[size]


@dataclass(frozen=True)
class Share:
    """What a language's share in the training text does.

    share: of the bytes.
    language, english: bytes per token, on the half that was not learned from.
    """

    share: float
    language: float
    english: float


def shares(
    declarations: Sequence[str],
    novels: str,
    size: int,
    parts: Sequence[float],
    place: int,
) -> list[Share]:
    """Learn from half of one declaration among more and more English, encode the other half.

    Args:
      declarations: the texts in the order of the file.
      novels: English text to take as much of as is needed.
      size: of the vocabularies.
      parts: the language's shares of the training text, each above 0.
      place: the language's in the file.
    """
    learned, other = halves(declarations[place])
    _, english = halves(declarations[ENGLISH.place])
    found = []
    for part in parts:
        n_english = round(n_bytes([learned]) * (1 - part) / part)
        around = novels.encode()[:n_english].decode(errors="ignore")
        tokenizer = tokenizers([learned, around], [size])[size]
        found.append(
            Share(
                part,
                n_bytes([other]) / n_tokens(tokenizer, other),
                n_bytes([english]) / n_tokens(tokenizer, english),
            )
        )
    return found
