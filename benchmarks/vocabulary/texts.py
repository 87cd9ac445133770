"""The texts that are measured: files of a folder, and what is made of them.

The folder is the caller's; nothing of it is part of the project.
"""

import argparse
import gzip
import inspect
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple

from lmcore.errors import InputError
from lmcore.tokenizer.pretokenize import pre_tokens

SEPARATOR = "<|endoftext|>"
NOVELS = "novels_train_70mb.txt.gz"
UNSEEN_NOVELS = "novels_valid_1mb.txt"
STORIES = "tinystories_valid_100kb.txt"
DECLARATIONS = "udhr_multilingual_6mb.txt"
# The places of the languages (`languages.py`) are those of this file.
DECLARATIONS_SHA256 = "7d70ca0729037543413cb4a334135dd7d768fe1232aee117206762d657e0f121"
TYPO_EVERY = 10  # words

MESSAGES = """\
Happy birthday!!! 🎂🎉🥳 hope you have the best day ever 💖💖💖
omg 😂😂😂 I can't even 🤣
running late, sorry 🙏🏽 save me a seat 🪑?
Just landed ✈️🇯🇵 ramen first 🍜 then sleep 😴
we won 3–2 ⚽️🏆🔥🔥 see you at the pub 🍻
thank you so much ❤️ you didn't have to 🥹
👩🏾‍💻 shipping it on a Friday 🤞🚀 what could go wrong 🙃
pls water the plants 🌱🪴 while I'm away 🧳
👍🏻 ok
new haircut 💇‍♀️✨ 10/10 would recommend 💯
rainy day ☔️☕️📚 = perfect day
who ate my 🍕?? 👀 👉 🐶
"""


class Texts(NamedTuple):
    """What is learned from, and what is encoded.

    novels: what the English vocabularies are learned from.
    unseen_novels: by other hands.
    stories: TinyStories, without the separators.
    declarations: the Universal Declaration of Human Rights, a text a language; lines without their
      indentation, empty ones left out.
    """

    novels: str
    unseen_novels: str
    stories: str
    declarations: list[str]


def read_texts(folder: Path) -> Texts:
    """The four texts of a folder.

    Raises:
      InputError: a file is missing, or the declarations are not those that the languages' places
        were taken from.
    """
    declarations = read(folder, DECLARATIONS)
    if sha256(declarations.encode()).hexdigest() != DECLARATIONS_SHA256:
        raise InputError(
            f"{folder / DECLARATIONS} is another file than the one whose languages are known: its "
            f"SHA-256 must begin with {DECLARATIONS_SHA256[:16]}; take that file, or leave out the "
            "part languages"
        )
    return Texts(
        read(folder, NOVELS),
        read(folder, UNSEEN_NOVELS),
        read(folder, STORIES).replace(SEPARATOR, ""),
        [tidy(text) for text in declarations.split(SEPARATOR)],
    )


def read(folder: Path, name: str) -> str:
    """A file of the folder, unpacked.

    Raises:
      InputError: there is none.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path} does not exist: --data must be a folder that holds {name}")
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def tidy(text: str) -> str:
    """Its lines without indentation, and without the empty ones.

    Example:
      >>> tidy("  a\\n   \\n    b c ")
      'a\\nb c'
    """
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def halves(text: str) -> tuple[str, str]:
    """The first and the second half of the lines; joined they are the text.

    Example:
      >>> halves("a\\nb\\nc")
      ('a\\n', 'b\\nc')
    """
    lines = text.splitlines(keepends=True)
    middle = len(lines) // 2
    return "".join(lines[:middle]), "".join(lines[middle:])


def with_typos(text: str, seed: int = 0) -> str:
    """Two neighbouring letters swapped in one word of ten, drawn by ``seed``.

    Only words of at least four letters are drawn; the first letter stays where it is.

    Example:
      >>> with_typos("a sentence of several words")
      'a sentence of several wodrs'
    """
    random = Random(seed)
    pieces = pre_tokens(text)
    for number, piece in enumerate(pieces):
        word = piece.lstrip(" ")
        if len(word) >= 4 and word.isalpha() and random.randrange(TYPO_EVERY) == 0:
            place = len(piece) - len(word) + random.randrange(1, len(word) - 1)
            pieces[number] = piece[:place] + piece[place + 1] + piece[place] + piece[place + 2 :]
    return "".join(pieces)


def python_code() -> str:
    """The source of the standard library's argparse."""
    return inspect.getsource(argparse)


def n_bytes(texts: Iterable[str]) -> int:
    """Their length as UTF-8."""
    return sum(len(text.encode()) for text in texts)
