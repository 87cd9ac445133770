"""Memory and time as a text grows: ``python -m benchmarks.tokenizer.scale --data FOLDER``.

The text is the novels; the large one repeats them, a line that changes before each copy, so that
its distinct words are hardly more and what else grows with a text shows. Both are trained on and
encoded to Parquet, each in a fresh process that reads the file document by document, as the stages
do: in numpy alone and, where it is installed, with numba as ``auto`` takes it.

From the rates on the large text follows what the assignment's texts would take. How many distinct
words those have is fitted to beginnings of the novels (Heaps' law), a guess for text of another
kind. Merging is taken to need as much for a word as on the novels. The table of so many words no
longer lies in the processor's cache, so counting them may be slower than this says.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Literal

from benchmarks.machine import cores, cpu_name
from benchmarks.tokenizer.command import ROOT, say, version_of
from benchmarks.tokenizer.estimate import (
    TARGETS,
    Estimate,
    Measured,
    Target,
    estimate,
    formula,
    power_law,
    slope,
)
from benchmarks.tokenizer.scale_worker import WITHOUT_NUMBA, Job
from benchmarks.tokenizer.texts import corpus
from flows.disk.errors import free_bytes
from flows.disk.units import size as readable
from lmcore.errors import InputError

VOCAB_SIZE = 32_000
ROOM = 2.0  # times the text: the text itself, and its tokens
KINDS: tuple[Literal["train", "encode"], ...] = ("train", "encode")
WORKERS = (1, 2)
VERSIONS = ("numpy", "numba", "pyarrow")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables and, with ``--json``, write all the figures."""
    options = parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            found = measure(options, Path(folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.tokenizer.scale", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of novels_train_70mb.txt.gz")
    parser.add_argument("--gigabytes", type=float, default=1.4, help="of the large text")
    parser.add_argument(
        "--runner",
        choices=("auto", "threads", "processes"),
        default="auto",
        help="two at once are these",
    )
    parser.add_argument("--scratch", type=Path, help="folder for the texts, removed afterwards")
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both texts, every engine; then the growth of the small one.

    Returns:
      machine, versions and measurements, ready for JSON.

    Raises:
      InputError: there is no such text, or no room for the large one.
    """
    n_bytes = int(options.gigabytes * 1e9)
    need = ROOM * n_bytes
    if (free := free_bytes(folder)) < need:
        raise InputError(
            f"{folder.parent} has {readable(free)} free, and {readable(need)} are needed: free "
            "some, name another folder with --scratch, or lower --gigabytes"
        )
    text = corpus(options.data, folder, (0,))
    small = text.files[0]
    large = folder / "large.txt"
    say(f"writing {readable(n_bytes)}")
    repeat(small, large, n_bytes)
    tokenizer = folder / "tokenizer.json"
    engines = ["numpy", *(["numba"] if find_spec("numba") else [])]
    measured = []
    for engine in engines:
        for path in (small, large):
            for kind, workers in product(KINDS, WORKERS):
                file = "" if kind == "train" and tokenizer.exists() else str(tokenizer)
                job = Job(kind, str(path), (VOCAB_SIZE,), "", file, workers, options.runner)
                measured.append(run(folder, engine, job))
    sizes = tuple(target.vocab_size for target in TARGETS)
    growth = run(folder, "numpy", Job("growth", str(small), sizes, ""))
    return {
        "machine": {"cpu": cpu_name(), "cores": cores(), "system": platform.platform()},
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in VERSIONS},
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "text": text.name,
        "measured": measured,
        "growth": growth["told"],
        "estimates": [estimates_of(engine, measured, growth["told"]) for engine in engines],
    }


def repeat(source: Path, target: Path, n_bytes: int) -> None:
    """Write copies of a text, each after a line that changes, until there are so many bytes.

    The last copy ends at a line's end; one copy is in memory at a time.
    """
    text = source.read_bytes()
    with target.open("wb") as file:
        number, left = 0, n_bytes
        while left > 0:
            number += 1
            copy = f"\nThis is copy number {number} of the same text.\n\n".encode() + text
            if len(copy) > left:
                copy = copy[: copy.rfind(b"\n", 0, left) + 1]
                left = 0
            file.write(copy)
            left -= len(copy)


def hidden(folder: str) -> str:
    """A folder with a ``numba`` that cannot be imported, for all processes of a measurement."""
    found = Path(folder) / "without"
    found.mkdir()
    (found / "numba.py").write_text("raise ImportError('left out')\n")
    return str(found)


def run(folder: Path, engine: str, job: Job) -> dict[str, Any]:
    """Do ``job`` in a fresh process with a new folder; the job and what it told.

    Raises:
      InputError: it failed; the message is the last line that it said.
    """
    what = f"{job.kind} {readable(Path(job.text).stat().st_size)}, {engine}"
    say(f"{what}, {job.workers} at once")
    with tempfile.TemporaryDirectory(dir=folder) as own:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.tokenizer.scale_worker"),
                json.dumps(asdict(job) | {"folder": own}),
            ],
            cwd=ROOT,
            env=os.environ | ({} if engine == "numba" else {WITHOUT_NUMBA: hidden(own)}),
            capture_output=True,
            text=True,
            check=False,
        )
        shutil.rmtree(Path(own) / "out", ignore_errors=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"{what}: failed: {last}")
    return {"engine": engine, "job": asdict(job), "told": json.loads(done.stdout.splitlines()[-1])}


def estimates_of(engine: str, measured: list[dict], growth: list[dict]) -> dict[str, Any]:
    """What each target would take, and the formulas."""
    ours = sorted(
        (one for one in measured if one["engine"] == engine), key=lambda one: one["told"]["bytes"]
    )  # of equal work, the largest text comes last
    train, encode = (
        {one["job"]["workers"]: one["told"] for one in ours if one["job"]["kind"] == kind}
        for kind in KINDS
    )
    words = [float(one["words"]) for one in growth]
    told = []
    for target in TARGETS:
        merge = growth[-1]["merge"][str(target.vocab_size)]["wall"]
        basis = Measured(
            count_rate={n: one["bytes"] / one["count"]["wall"] for n, one in train.items()},
            encode_rate={n: one["bytes"] / one["encode"]["wall"] for n, one in encode.items()},
            n_words=max(one["words"] for one in train.values()),
            train_bytes=max(one["peak_bytes"] for one in train.values()),
            words=power_law([float(one["bytes"]) for one in growth], words),
            merge_per_word=merge / words[-1],
            bytes_per_word=slope(words, [float(one["peak_bytes"]) for one in growth]),
        )
        told.append(
            {
                "target": asdict(target),
                "basis": asdict(basis),
                "formula": formula(basis),
                "estimate": estimate(basis, target)._asdict(),
            }
        )
    return {"engine": engine, "targets": told}


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        f"Python {found['python']}, {versions}",
        f"text: {found['text']}; load of the machine: {found['load']}",
        "",
        "seconds by the clock, in brackets of the processor; work/workers; memory at its peak",
        f"{'text':>8} {'engine':6} {'work':9} {'words':>9} {'count or encode':>24} "
        f"{'MB/s':>7} {'merge':>16} {'memory':>9}",
    ]
    lines += [row(one["engine"], one["job"], one["told"]) for one in found["measured"]]
    lines += ["", *growth_of_memory(found["measured"]), "", "distinct words of beginnings:"]
    for one in found["growth"]:
        lines.append(f"  {readable(one['bytes']):>8} {one['words']:>9,} words")
    for made in found["estimates"]:
        lines += ["", *section(made)]
    return "\n".join(lines)


def row(engine: str, job: dict, told: dict) -> str:
    """A measurement in a line."""
    main = told["count"] if "count" in told else told["encode"]
    work = f"{job['kind']}/{job['workers']}"
    words = f"{told['words']:,}" if "words" in told else ""
    merge = seconds(told["merge"]) if "merge" in told else ""
    return (
        f"{readable(told['bytes']):>8} {engine:6} {work:9} {words:>9} {seconds(main):>24} "
        f"{told['bytes'] / 1e6 / main['wall']:7.1f} {merge:>16} {readable(told['peak_bytes']):>9}"
    )


def seconds(clock: dict[str, float]) -> str:
    return f"{clock['wall']:.2f} s ({clock['processor']:.2f})"


def growth_of_memory(measured: list[dict]) -> list[str]:
    """The peak on the large text over that on the small one, for each work."""
    peaks: dict[tuple, list[tuple[int, int]]] = {}
    for one in measured:
        work = (one["engine"], one["job"]["kind"], one["job"]["workers"])
        peaks.setdefault(work, []).append((one["told"]["bytes"], one["told"]["peak_bytes"]))
    lines = []
    for (engine, kind, workers), both in peaks.items():
        (few, small), (many, large) = min(both), max(both)
        lines.append(
            f"memory, {kind}/{workers}, {engine}: {readable(large)} for {readable(many)} of text, "
            f"{large / small:.2f} times that for {readable(few)}"
        )
    return lines


def section(made: dict[str, Any]) -> list[str]:
    """The estimates of one engine."""
    lines = [f"estimate, {made['engine']}:"]
    for told in made["targets"]:
        target, found = Target(**told["target"]), Estimate(**told["estimate"])
        training, encoding = (
            ", ".join(f"{minutes(n)} ({workers} at once)" for workers, n in by_workers.items())
            for by_workers in (found.train_seconds, found.encode_seconds)
        )
        lines += [
            f"  {target.name}, {readable(target.n_bytes)}, vocabulary {target.vocab_size:,}, "
            f"{found.n_words:,.0f} distinct words supposed",
            f"    training {training}, of that {minutes(found.merge_seconds)} merging; "
            f"the handout allows {minutes(target.limit_seconds)}",
            f"    memory   {readable(found.train_bytes)}; "
            f"the handout allows {readable(target.limit_bytes)}",
            f"    encoding {encoding}",
            *(f"      {line}" for line in told["formula"].splitlines()),
        ]
    return lines


def minutes(n: float) -> str:
    """Seconds for people.

    Example:
      >>> minutes(59.4), minutes(90.0), minutes(43_200.0)
      ('59 s', '1.5 min', '12.0 h')
    """
    if n < 60:
        return f"{n:.0f} s" if n >= 10 else f"{n:.1f} s"
    return f"{n / 60:.1f} min" if n < 3_600 else f"{n / 3_600:.1f} h"


if __name__ == "__main__":
    main()
