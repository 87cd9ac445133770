"""The parts of the benchmark, each as figures and as a Markdown table."""

import argparse
from collections.abc import Sequence
from statistics import median

from benchmarks.vocabulary import languages, sizes, speed, texts, tricks, unknown
from lmcore import Tokenizer

SIZES = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
SIZE = 32_768
FASTER, SLOWER = 16_384, 32_768
GREEK = next(one for one in languages.LANGUAGES if one.name == "Greek")
SHARES, SHARE_SIZE = (0.001, 0.01, 0.1, 0.5), 2_048

Outcome = tuple[list, list[str]]  # the figures, and the lines that tell them


def sizes_for(names: Sequence[str]) -> tuple[int, ...]:
    """The vocabulary sizes that these parts need."""
    return SIZES if "sizes" in names else (FASTER, SIZE)


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
        "bytes / char",
        "marks",
        "bytes ×",
        "N bytes / token",
        "N tokens / char",
        "N ×",
        "A bytes / token",
        "A tokens / char",
        "A ×",
        "W ×",
    )
    legend = (
        "N: learned from novels; A: from all the languages; W: the same, words cut at white space "
        "only; ×: tokens (or bytes) of the text, English = 1"
    )
    return found, [*table(heads, rows, n_words=2), "", legend]


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
    often = tricks.repetition(read.novels)
    line = (
        f"{often.n_words:,} words, {often.n_distinct:,} of them different; {often.n_merges:,} "
        f"merges in {often.n_batches:,} batches"
    )
    return [*found, often], [*table(heads, rows, n_words=2), "", line]


PARTS = {
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
