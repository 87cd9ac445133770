"""Validation bits a byte after a fixed time: ours against nanoGPT's recipe.

On each corpus the recipe trains for the whole time, with each of its contexts and vocabularies; the
best of them on the one half of the validation text is the one to beat. Ours trains for the whole
time and for a third of it, each with a schedule of its own. All are told on the other half of the
text, over several seeds. One run follows the other, each on all cores; tokenizers are trained
before the clock runs, on the training text, for both alike.

`--tried` instead trains ours once for each of the settings that were tried, changed one at a time,
and tells the half of the text on which the settings were chosen; those of a third of the time, or
with `--tried whole` those of the whole.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.time_to_quality.report import report, tried_report
from benchmarks.time_to_quality.settings import OURS, Settings, variants
from benchmarks.time_to_quality.sides import Attempt, Result, Side, recipe
from benchmarks.time_to_quality.texts import FILES, Documents, documents, write_streams
from flows.trainer.lifeline import CLEARED, environment
from flows.trainer.numerics import available_cores
from lmcore.errors import InputError

ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables and, with ``--json``, write the figures."""
    options = parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            texts = {corpus: documents(options.data, corpus) for corpus in options.corpus}
            bench = Bench(texts, Path(folder), options.threads)
            if options.tried:
                text, found = tried(bench, options)
            else:
                text, found = compare(bench, options)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(text)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.time_to_quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the texts")
    parser.add_argument("--corpus", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument(
        "--seconds", type=above_zero(float), default=300.0, help="of training, a run"
    )
    parser.add_argument("--seeds", type=above_zero(int), default=3)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of each run")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256], help="the recipe's")
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[2048, 4096], help="the recipe's"
    )
    parser.add_argument(
        "--tried",
        nargs="?",
        choices=Settings._fields,
        const="third",
        help="one run for each setting tried beside those of a third of the time, or of the whole",
    )
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def above_zero(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Read a number, and refuse one that no run could have."""

    def read(word: str) -> Any:
        value = kind(word)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{word} must be above 0")
        return value

    return read


class Bench:
    """Where runs take place."""

    def __init__(self, texts: Mapping[str, Documents], folder: Path, threads: int) -> None:
        self.texts, self.folder, self.threads = texts, folder, threads

    def run(self, corpus: str, side: Side, seconds: float, seed: int) -> Result:
        """Train in a process of its own.

        Raises:
          InputError: the process failed.
        """
        print(f"  … {corpus}: {side.name}, {seconds:.0f} s, seed {seed}", file=sys.stderr)
        streams = self.folder / f"{corpus}-{side.model.vocab_size}.npz"
        if not streams.exists():
            write_streams(self.texts[corpus], side.model.vocab_size, streams)
        attempt = Attempt(side, str(streams), seconds, seed, self.threads)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.time_to_quality.worker",
                json.dumps(attempt.to_json()),
            ],
            cwd=ROOT,
            env=self.environment(side),
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise InputError(f"the run of {side.name} on {corpus} failed, see above")
        return Result(**json.loads(done.stdout))

    def environment(self, side: Side) -> dict[str, str]:
        """What our command sets; a plain script gets its user's shell."""
        if side.who != "lmcore":
            return dict(os.environ)
        kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
        return kept | environment(self.threads)


def compare(bench: Bench, options: argparse.Namespace) -> tuple[str, list]:
    """The recipe's best against ours."""
    found, texts = [], []
    for corpus in options.corpus:
        candidates = [recipe(c, v) for c in options.contexts for v in options.vocabularies]
        first = [(side, bench.run(corpus, side, options.seconds, 0)) for side in candidates]
        best, result = min(first, key=lambda one: one[1].tune)
        rows = {f"{best.name}, vocabulary {best.model.vocab_size}": [result]}
        for seed in range(1, options.seeds):
            rows[next(iter(rows))].append(bench.run(corpus, best, options.seconds, seed))
        for side, share in zip(OURS[corpus], (3, 1), strict=True):
            seconds = options.seconds / share
            rows[f"{side.name}, {seconds:.3g} s"] = [
                bench.run(corpus, side, seconds, seed) for seed in range(options.seeds)
            ]
        others = [
            (f"{s.name}, vocabulary {s.model.vocab_size}", r) for s, r in first if s is not best
        ]
        texts.append(report(corpus, rows, others, options.seconds, options.threads))
        found.append(
            {
                "corpus": corpus,
                "rows": {name: [asdict(one) for one in row] for name, row in rows.items()},
                "not chosen": {name: asdict(one) for name, one in others},
            }
        )
    return "\n\n".join(texts), found


def tried(bench: Bench, options: argparse.Namespace) -> tuple[str, list]:
    """Ours, and ours with one thing changed."""
    found, texts = [], []
    for corpus in options.corpus:
        rows = {
            name: [bench.run(corpus, side, options.seconds, seed) for seed in range(options.seeds)]
            for name, side in variants(getattr(OURS[corpus], options.tried)).items()
        }
        texts.append(tried_report(corpus, rows, options.threads))
        found.append(
            {"corpus": corpus, "rows": {n: [asdict(r) for r in row] for n, row in rows.items()}}
        )
    return "\n\n".join(texts), found
