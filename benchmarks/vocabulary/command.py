"""What a vocabulary does, measured: ``python -m benchmarks.vocabulary --data FOLDER``.

The parts: ``unknown`` (text that a vocabulary of words or characters cannot write), ``sizes``
(compression, parameters and FLOPs by vocabulary size), ``languages`` (one text in many languages),
``share`` (what a language's share in the training text does), ``speed`` (training steps at two
sizes) and ``tricks`` (what each trick of the fast tokenizer buys). The first four count, and are
the same on every machine. The last two are ratios of processor seconds in one run.

Tables are printed as Markdown.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import cores, cpu_name
from benchmarks.vocabulary import languages, sizes, speed, texts, tricks, unknown
from benchmarks.vocabulary.trained import tokenizers
from lmcore import Tokenizer
from lmcore.errors import InputError

PARTS = ("unknown", "sizes", "languages", "share", "speed", "tricks")
SIZES = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
SIZE = 32_768
FASTER, SLOWER = 16_384, 32_768
GREEK = next(one for one in languages.LANGUAGES if one.name == "Greek")
SHARES, SHARE_SIZE = (0.001, 0.01, 0.1, 0.5), 2_048


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts asked for, and print each as soon as it is done."""
    options = parser().parse_args(arguments)
    print(machine(), flush=True)
    try:
        found = measure(options)
    except InputError as error:
        sys.exit(f"error: {error}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, default=plain) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the texts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of speed and tricks")
    parser.add_argument("--plot", type=Path, help="SVG file that gets the picture of languages")
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Do the parts in their order.

    Raises:
      InputError: a text is missing, or a picture is asked for without its part.
    """
    if options.plot and "languages" not in options.parts:
        raise InputError("--plot draws the part languages: add it to --parts, or leave out --plot")
    read = texts.read_texts(options.data)
    made: dict[int, Tokenizer] = {}
    if {"unknown", "sizes", "languages", "speed"} & set(options.parts):
        made = tokenizers([read.novels], SIZES if "sizes" in options.parts else (FASTER, SIZE))
    found: dict[str, Any] = {"machine": machine()}
    for part in options.parts:
        found[part], lines = MEASURES[part](read, made, options)
        print(f"\n{part}\n", *lines, sep="\n", flush=True)
    return found


def machine() -> str:
    """The machine and the versions, in a line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "matplotlib"))
    return (
        f"{cpu_name()}, {cores()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {packages}"
    )


Outcome = tuple[list, list[str]]


def measure_unknown(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Text of seven kinds, and three vocabularies learned from the novels."""
    words = unknown.most_frequent_words(read.novels, SIZE)
    characters = unknown.characters_of(read.novels)
    others = [one for one in languages.LANGUAGES if one != languages.ENGLISH]
    latin, other = (
        "\n".join(read.declarations[one.place] for one in others if (one.script == "Latin") is yes)
        for yes in (True, False)
    )
    kinds = {
        "unseen novels": read.unseen_novels,
        "the same with typing errors": texts.with_typos(read.unseen_novels),
        "TinyStories": read.stories,
        "Python code": texts.python_code(),
        "messages with emoji": texts.MESSAGES,
        "other languages, Latin script": latin,
        "other languages, other scripts": other,
    }
    found = [
        unknown.written(name, text, words, characters, made[SIZE]) for name, text in kinds.items()
    ]
    rows = [
        (
            one.text,
            f"{one.unknown_words:.1%}",
            f"{one.unknown_characters:.2%}",
            f"{one.unknown_bytes:.0%}",
            f"{one.bytes_per_token:.2f}",
            f"{one.single_bytes:.0%}",
        )
        for one in found
    ]
    heads = (
        "text",
        "unknown words",
        "unknown characters",
        "unknown bytes",
        "bytes per token",
        "tokens of one byte",
    )
    seen = f"{len(words):,} words; {len(characters):,} characters; {SIZE:,} tokens"
    return found, [*table(heads, rows), "", seen]


def measure_sizes(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Compression at each size, and what each size costs each model."""
    found = {size: sizes.compression(made[size], read) for size in SIZES}
    spent = sizes.costs(found)
    first = table(
        ("vocabulary", "novels", "TinyStories", "training text", f"rare (< {sizes.RARE} times)"),
        [
            (
                f"{one.vocab_size:,}",
                f"{one.novels:.3f}",
                f"{one.stories:.3f}",
                f"{one.trained:.3f}",
                f"{one.rare:,} ({one.rare / one.vocab_size:.1%})",
            )
            for one in found.values()
        ],
    )
    second = table(
        (
            "preset",
            "vocabulary",
            "embeddings",
            "share",
            "tied",
            "share, tied",
            "training FLOPs per byte",
            "logits' share",
        ),
        [
            (
                one.model,
                f"{one.vocab_size:,}",
                f"{one.embedding / 1e6:.2f}M",
                f"{one.share:.0%}",
                f"{one.tied_embedding / 1e6:.2f}M",
                f"{one.tied_share:.0%}",
                f"{one.flops_per_byte / 1e6:.2f}M",
                f"{one.logits:.0%}",
            )
            for one in spent
        ],
    )
    return [*found.values(), *spent], [*first, "", *second]


def measure_languages(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Every language with both vocabularies, and the picture."""
    folds = languages.two_folds(read.declarations, SIZE)
    whole = languages.two_folds(read.declarations, SIZE, "whitespace")
    found = languages.told(read.declarations, made[SIZE], folds, whole)
    if options.plot:
        from benchmarks.vocabulary.chart import draw_languages

        draw_languages(found, options.plot)
    english = next(one for one in found if one.language == languages.ENGLISH)
    rows = [
        (
            one.language.name,
            one.language.script,
            f"{one.n_bytes / one.n_characters:.2f}",
            f"{one.n_marks / one.n_characters:.0%}",
            f"{one.n_bytes / english.n_bytes:.2f}",
            f"{one.n_bytes / one.novels:.2f}",
            f"{one.novels / one.n_characters:.2f}",
            f"{one.novels / english.novels:.2f}",
            f"{one.n_bytes / one.many:.2f}",
            f"{one.many / one.n_characters:.2f}",
            f"{one.many / english.many:.2f}",
            f"{one.many_whole / english.many_whole:.2f}",
        )
        for one in sorted(found, key=lambda one: one.novels)
    ]
    heads = (
        "language",
        "script",
        "bytes per character",
        "marks",
        "bytes, English = 1",
        "novels: bytes per token",
        "tokens per character",
        "tokens, English = 1",
        "all languages: bytes per token",
        "tokens per character",
        "tokens, English = 1",
        "cut at white space only",
    )
    return found, table(heads, rows, n_words=2)


def measure_share(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Half a declaration among more and more English."""
    found = languages.shares(read.declarations, read.novels, SHARE_SIZE, SHARES, GREEK.place)
    rows = [(f"{one.share:.1%}", f"{one.language:.2f}", f"{one.english:.2f}") for one in found]
    heads = (f"share of {GREEK.name}", f"bytes per token, {GREEK.name}", "English")
    return found, table(heads, rows)


def measure_speed(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Steps at the two sizes, in turns."""
    found = speed.in_turns(
        [made[FASTER], made[SLOWER]], read.unseen_novels, blocks=options.rounds, steps=2
    )
    rows = [
        (
            f"{one.vocab_size:,}",
            f"{one.steps_per_second:.3f}",
            f"{one.bytes_per_step:,.0f}",
            f"{one.bytes_per_second:,.0f}",
        )
        for one in found
    ]
    heads = ("vocabulary", "steps per processor second", "bytes per step", "bytes per second")
    first, second = found
    ratios = [b / a for a, b in zip(first.seconds, second.seconds, strict=True)]
    in_bytes = median(ratios) * first.bytes_per_step / second.bytes_per_step
    line = (
        f"{first.vocab_size:,} against {second.vocab_size:,}: {median(ratios):.2f} times the steps "
        f"({min(ratios):.2f} to {max(ratios):.2f}), {in_bytes:.2f} times the bytes"
    )
    return found, [*table(heads, rows), "", line]


def measure_tricks(
    read: texts.Texts, made: dict[int, Tokenizer], options: argparse.Namespace
) -> Outcome:
    """Each trick beside the way without it."""
    found = tricks.tricks(read.novels, rounds=options.rounds)
    rows = [
        (
            one.work if number == 0 else "",
            way,
            f"{median(one.seconds[number]):.3f} s",
            f"{one.times_faster(number):.1f}",
        )
        for one in found
        for number, way in enumerate(one.ways)
    ]
    heads = ("work", "way", "processor time", "the last way is so many times faster")
    return found, table(heads, rows, n_words=2)


MEASURES = {
    "unknown": measure_unknown,
    "sizes": measure_sizes,
    "languages": measure_languages,
    "share": measure_share,
    "speed": measure_speed,
    "tricks": measure_tricks,
}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], n_words: int = 1) -> list[str]:
    """A Markdown table: the first ``n_words`` columns to the left, the others to the right.

    Example:
      >>> print(*table(("a", "b"), [("x", "1")]), sep="\\n")
      | a | b |
      |---|---:|
      | x | 1 |
    """
    sides = ["---"] * n_words + ["---:"] * (len(heads) - n_words)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return [lines[0], f"|{'|'.join(sides)}|", *lines[1:]]


def plain(value: Any) -> Any:
    """A dataclass as a dict, for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} has no form in JSON")
