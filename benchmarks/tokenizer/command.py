"""Tokenizers side by side, on one core: ``python -m benchmarks.tokenizer --data FOLDER``.

Every engine does the same work: the same text, GPT-2's pattern, one special token, the same size of
vocabulary; each in a fresh process on one core, one after the other, round by round, so that what
slows the machine slows them all. A ratio is that of processor seconds in one round; the median of
the rounds is shown. Above 1 means that lmcore is the faster.

An engine whose merges or ids differ from ours is shown with the first difference, and not ranked.
Training breaks ties (pairs that are equally frequent) in a way of its own in most engines, so the
first difference of the merges says whether it is one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from benchmarks.machine import cores, cpu_name
from benchmarks.tokenizer.engines import (
    ENCODERS,
    ONE_THREAD,
    PACKAGES,
    SPECIAL,
    TRAINERS,
    Engine,
)
from benchmarks.tokenizer.texts import corpus
from benchmarks.tokenizer.worker import Job
from lmcore.errors import InputError
from lmcore.tokenizer.fast_encoding import WordMerger, merge_table
from lmcore.tokenizer.word_counts import count_words

ROOT = Path(__file__).parents[2]
OURS: tuple[Engine, ...] = ("lmcore", "lmcore+numba")


@dataclass(frozen=True)
class Row:
    """A line of the table: the same work for several engines.

    name: what the reader sees.
    megabytes: of text; 0 takes all of it.
    parts: what each measured time is.
    """

    name: str
    kind: Literal["train", "arrays", "lists", "sentence"]
    megabytes: int
    vocab_size: int
    engines: tuple[Engine, ...]
    parts: tuple[str, ...] = ("",)


TWICE = ("cold", "warm")
ROWS: dict[str, Row] = {
    "numba-first": Row("train 2 MB, numba not yet compiled", "train", 2, 10_000, ("lmcore+numba",)),
    "train-2": Row("train 2 MB to 10,000", "train", 2, 10_000, TRAINERS),
    "train-10": Row("train 10 MB to 10,000", "train", 10, 10_000, TRAINERS),
    "train-70": Row("train all to 32,000", "train", 0, 32_000, TRAINERS),
    "arrays": Row("encode all to arrays", "arrays", 0, 32_000, ENCODERS, TWICE),
    "lists": Row("encode all to lists", "lists", 0, 32_000, ENCODERS, TWICE),
    "sentence": Row("encode 200 characters", "sentence", 2, 32_000, ENCODERS),
}


@dataclass
class Measured:
    """What one engine did in one row; ``rounds`` holds what its process told, round by round."""

    row: str
    engine: Engine
    rounds: list[dict[str, Any]]
    failed: str = ""
    difference: str = ""
    """Empty if its merges or ids are ours; otherwise the first difference."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and, with ``--json``, write all the figures."""
    options = parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options, Path(folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, default=asdict) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.tokenizer", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of novels_train_70mb.txt.gz")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--engines", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--two-cores", action="store_true", help="encode in two processes at once, too"
    )
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every row, round by round.

    Returns:
      machine, versions, text and measurements, ready for JSON.
    """
    rows = {name: ROWS[name] for name in options.rows}
    sizes = tuple(sorted({row.megabytes for row in rows.values()} | {0}))
    text = corpus(options.data, folder, sizes)
    engines = [engine for engine in options.engines if find_spec(PACKAGES[engine])]
    found = [
        Measured(name, engine, [])
        for name, row in rows.items()
        for engine in row.engines
        if engine in engines
    ]
    if "lmcore+numba" in engines:
        say("compiling, so that the rounds find numba's work done")
        run(Job("train", "lmcore+numba", str(text.files[sizes[0]]), 300))
    vocabulary = folder / "vocabulary.json"
    if options.two_cores or any(row.kind != "train" for row in rows.values()):
        say("training the vocabulary that all encode with")
        run(Job("train", "lmcore", str(text.files[0]), 32_000, 0, str(vocabulary)))
    for number in range(options.rounds):
        for one in found:
            if one.failed:
                continue
            row = rows[one.row]
            result = "" if number else str(folder / f"{one.row}-{one.engine}.npy")
            say(f"round {number + 1} of {options.rounds}: {row.name}, {one.engine}")
            job = Job(
                row.kind,
                one.engine,
                str(text.files[row.megabytes]),
                row.vocab_size,
                first_core(),
                result,
                str(vocabulary),
            )
            # What numba compiles is kept in a folder: a new one each time.
            cache = tempfile.mkdtemp(dir=folder) if one.row == "numba-first" else ""
            try:
                one.rounds.append(run(job, {"NUMBA_CACHE_DIR": cache} if cache else {}))
            except RuntimeError as error:
                one.failed = str(error)
    two_cores: dict[Engine, list[float]] = {}
    if options.two_cores:
        for engine in OURS:
            if engine not in engines:
                continue
            say(f"one process, then two at once: {engine}")
            job = Job("arrays", engine, str(text.files[0]), 32_000, vocabulary=str(vocabulary))
            two_cores[engine] = [speedup(job) for _ in range(options.rounds)]
    for one in found:
        compare(one, found, rows[one.row], folder, text.files[rows[one.row].megabytes])
    return {
        "machine": {"cpu": cpu_name(), "cores": cores(), "system": platform.platform()},
        "python": platform.python_version(),
        "versions": {engine: version_of(PACKAGES[engine]) for engine in options.engines},
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "text": text.name,
        "bytes": {size: path.stat().st_size for size, path in text.files.items()},
        "rounds": options.rounds,
        "two_cores": two_cores,
        "measured": found,
    }


def first_core() -> int:
    """A core that this process may use; -1 where the system cannot tell."""
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else -1


def run(job: Job, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Do ``job`` in a fresh process, with this in its environment; what it told.

    Raises:
      RuntimeError: it failed; the message is the last line that it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tokenizer.worker", json.dumps(asdict(job))],
        cwd=ROOT,
        env=os.environ | ONE_THREAD | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def speedup(job: Job) -> float:
    """Wall time of one process that encodes all, over that of two that encode half each at once."""
    one = run(job)["wall_seconds"]
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(run, [replace(job, part=part, parts=2) for part in range(2)])
        return one / max(half["wall_seconds"] for half in halves)


def compare(one: Measured, found: list[Measured], row: Row, folder: Path, text: Path) -> None:
    """Fill in how the engine's result differs from ours."""
    ours = next((m for m in found if m.row == one.row and m.engine == "lmcore"), None)
    if one.failed or ours is None or ours.failed:
        return
    if one.rounds[0]["digest"] == ours.rounds[0]["digest"]:
        return
    theirs = _values(folder / f"{one.row}-{one.engine}.npy", row)
    expected = _values(folder / f"{one.row}-lmcore.npy", row)
    places = (i for i, (a, b) in enumerate(zip(theirs, expected, strict=False)) if a != b)
    place = next(places, min(len(theirs), len(expected)))
    what = "merge" if row.kind == "train" else "id"
    one.difference = (
        f"{what} {place} is {_at(theirs, place)}, ours {_at(expected, place)}"
        f"{_tie(text, theirs, expected, place)} "
        f"({len(theirs):,} and {len(expected):,} in all, "
        f"{len(set(theirs) & set(expected)):,} the same)"
        if row.kind == "train"
        else f"{what} {place} is {_at(theirs, place)}, ours {_at(expected, place)}"
    )


def _tie(text: Path, theirs: list, ours: list, place: int) -> str:
    """Says "a tie" if both pairs are seen equally often when the merges before them are made."""
    if place >= min(len(theirs), len(ours)):
        return ""
    tokens = [bytes([byte]) for byte in range(256)]
    pairs = [(left.encode("latin-1"), right.encode("latin-1")) for left, right in ours[:place]]
    merges = {pair: pair[0] + pair[1] for pair in pairs}
    ids = {token: i for i, token in enumerate([*tokens, *merges.values()])}
    words = count_words([text.read_bytes().decode()], special_tokens=(SPECIAL,))
    found, lengths = WordMerger(merge_table(ids, merges)).merge(words.text, words.lengths)
    times, word = np.repeat(words.times, lengths), np.repeat(np.arange(len(lengths)), lengths)

    def count(pair: tuple[str, str]) -> int:
        left, right = (ids.get(token.encode("latin-1"), -1) for token in pair)
        here = (found[:-1] == left) & (found[1:] == right) & (word[:-1] == word[1:])
        return int(times[:-1][here].sum())

    return ", a tie" if count(theirs[place]) == count(ours[place]) else ", NOT a tie"


def _values(path: Path, row: Row) -> list:
    if row.kind == "train":
        return [tuple(pair) for pair in json.loads(path.read_text())]
    return np.load(path).tolist()


def _at(values: list, place: int) -> str:
    return repr(values[place]) if place < len(values) else "missing"


def version_of(package: str) -> str:
    """The version installed, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    machine = found["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {found['python']}",
        ", ".join(f"{PACKAGES[e]} {v}" for e, v in found["versions"].items()),
        f"text: {found['text']}; {found['rounds']} rounds, one core, processor seconds (median)",
        "a ratio is that engine's time over ours, in the same round: above 1, lmcore is faster",
    ]
    for name in dict.fromkeys(one.row for one in found["measured"]):
        lines += ["", *section(ROWS[name], [m for m in found["measured"] if m.row == name])]
    lines += [
        f"\nencode all in two processes, {engine}: {median(speeds):.2f} times as fast as in one"
        for engine, speeds in found["two_cores"].items()
    ]
    return "\n".join(lines)


def section(row: Row, found: list[Measured]) -> list[str]:
    """A row of the work: a line for each engine."""
    ours = [one for one in found if one.engine in OURS and one.rounds and not one.failed]
    lines = [row.name]
    for one in found:
        if one.failed:
            lines.append(f"  {one.engine:13} failed: {one.failed}")
            continue
        cells = [f"  {one.engine:13}", f"import {_median(one, 'import_seconds'):5.2f} s"]
        for number, part in enumerate(row.parts):
            seconds = median(told["seconds"][number] for told in one.rounds)
            unit = f"{seconds * 1e6:8.1f} us" if row.kind == "sentence" else f"{seconds:7.3f} s"
            cells.append(f"{part} {unit}".strip())
            if one.engine not in OURS:
                cells += [f"{ratio(one, us, number):5.2f} x {us.engine}" for us in ours]
        cells.append(f"+{_median(one, 'added_bytes') / 2**20:,.0f} MiB")
        if one.difference:
            cells.append(f"NOT RANKED: {one.difference}")
        lines.append("  ".join(cells))
    return lines


def ratio(theirs: Measured, ours: Measured, part: int) -> float:
    """Their time over ours, the median of the rounds."""
    return median(
        a["seconds"][part] / max(b["seconds"][part], 1e-9)
        for a, b in zip(theirs.rounds, ours.rounds, strict=False)
    )


def _median(one: Measured, name: str) -> float:
    return median(told[name] for told in one.rounds)
