"""Text to tokens in Parquet, beside `datasets`: ``python -m benchmarks.pretokenize --data FOLDER``.

Both sides read the same file of JSON lines, have the same vocabulary and the same cores, and each
works in a fresh process, one after the other, round by round. The ids must be equal, document by
document; where they are not, the command says so and ends with status 1.

A ratio is their time over ours in one round: above 1, lmcore is the faster. By the clock, and by
processor seconds, which do not grow while another program has the core.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import cores, cpu_name
from benchmarks.pretokenize.sides import PACKAGES, Side
from benchmarks.pretokenize.worker import Job
from benchmarks.tokenizer.command import say, version_of
from benchmarks.tokenizer.engines import ONE_THREAD, SPECIAL
from benchmarks.tokenizer.texts import corpus, documents
from benchmarks.tokenizer.worker import write_vocabulary
from flows.formats.tokenizer_json import load_tokenizer, save_tokenizer
from lmcore import Tokenizer, train_bpe
from lmcore.errors import InputError
from lmcore.tokenizer.bpe import VocabularyNotFilled

ROOT = Path(__file__).parents[2]
OURS: tuple[Side, ...] = ("lmcore", "lmcore+numba")
# A page of the web. (A story has 700, a novel 600,000; stored documents are most often pages.)
DOCUMENT_CHARACTERS = 4_000
# No server is asked, and what a run leaves behind is nobody's input.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass
class Measured:
    """What one side did; ``rounds`` holds what its process told, round by round."""

    side: Side
    rounds: list[dict[str, Any]]
    failed: str = ""


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
    if any(one.failed for one in found["measured"]) or not same(found["measured"]):
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.pretokenize", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of novels_train_70mb.txt.gz")
    parser.add_argument("--cores", type=int, default=1, help="threads or processes that encode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=0, help="of text; 0 takes all of it")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--sides", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every side, round by round.

    Raises:
      InputError: the text is not there, or more cores are asked for than there are.
    """
    if not 1 <= options.cores <= cores():
        raise InputError(f"--cores is {options.cores}: this process may use {cores()}")
    if options.vocab_size > 1 << 16:
        raise InputError(f"--vocab-size is {options.vocab_size}: ids are stored in 16 bits here")
    text = corpus(options.data, folder, (options.megabytes,))
    files = write_files(text.files[options.megabytes], folder, options.vocab_size)
    missing = [side for side in options.sides if not all(map(find_spec, PACKAGES[side]))]
    found = [Measured(side, []) for side in options.sides if side not in missing]
    if "lmcore+numba" in [one.side for one in found]:
        say("compiling, so that the rounds find numba's work done")
        run(Job("lmcore+numba", options.cores, **files, folder=""), folder)
    for number in range(options.rounds):
        for one in found:
            if one.failed:
                continue
            say(f"round {number + 1} of {options.rounds}: {one.side}")
            try:
                one.rounds.append(run(Job(one.side, options.cores, **files, folder=""), folder))
            except RuntimeError as error:
                one.failed = str(error)
    return {
        "machine": {"cpu": cpu_name(), "cores": cores(), "system": platform.platform()},
        "python": platform.python_version(),
        "versions": {p: version_of(p) for side in options.sides for p in PACKAGES[side]},
        "missing": missing,
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "text": text.name,
        "bytes": text.files[options.megabytes].stat().st_size,
        "vocab_size": load_tokenizer(Path(files["tokenizer"])).vocab_size,
        "cores": options.cores,
        "rounds": options.rounds,
        "measured": found,
    }


def write_files(text: Path, folder: Path, vocab_size: int) -> dict[str, str]:
    """The documents as JSON lines, and a vocabulary trained on them, for each side in its own way.

    Returns:
      the names that `Job` has for them.
    """
    whole = text.read_bytes().decode()
    parts = [one for part in whole.split(SPECIAL) for one in documents(part, DOCUMENT_CHARACTERS)]
    paths = {
        "text": folder / "text.jsonl",
        "valid": folder / "valid.jsonl",
        "tokenizer": folder / "tokenizer.json",
        "vocabulary": folder / "vocabulary.json",
    }
    with paths["text"].open("w") as file:
        file.writelines(json.dumps({"text": part}) + "\n" for part in parts)
    paths["valid"].write_text(json.dumps({"text": parts[0]}) + "\n")
    say("training the vocabulary that all encode with")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VocabularyNotFilled)  # by the stories; the size is shown
        tokens, merges = train_bpe(parts, vocab_size, (SPECIAL,))
    save_tokenizer(paths["tokenizer"], Tokenizer(tokens, merges, (SPECIAL,)))
    write_vocabulary(paths["vocabulary"], list(merges))
    return {name: str(path) for name, path in paths.items()}


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Do ``job`` in a fresh process and in a fresh folder, which is removed; what it told.

    Raises:
      RuntimeError: it failed; the message is the last line that it said.
    """
    fresh = Path(tempfile.mkdtemp(dir=folder))
    cache = {"HF_HOME": str(fresh / "home"), "HF_DATASETS_CACHE": str(fresh / "home")}
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "benchmarks.pretokenize.worker"),
            json.dumps(asdict(job) | {"folder": str(fresh)}),
        ],
        cwd=ROOT,
        env=os.environ | ONE_THREAD | ENVIRONMENT | cache,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(fresh, ignore_errors=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def same(found: list[Measured]) -> bool:
    """Whether all sides made the same ids of the same documents, in every round."""
    return len({told["digest"] for one in found for told in one.rounds}) <= 1


def report(found: dict[str, Any]) -> str:
    """The figures as text."""
    machine, measured = found["machine"], found["measured"]
    core = "one core" if found["cores"] == 1 else f"{found['cores']} cores"
    told = next((one.rounds[0] for one in measured if one.rounds), {})
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {found['python']}",
        ", ".join(f"{package} {version}" for package, version in found["versions"].items()),
        f"text: {found['text']}, {found['bytes'] / 1e6:,.1f} MB in "
        f"{told.get('n_documents', 0):,} documents, {told.get('n_tokens', 0):,} tokens of a "
        f"vocabulary of {found['vocab_size']:,}",
        f"{core}, {found['rounds']} rounds (median), from JSON lines to Parquet",
        "a ratio is their time over ours, in the same round: above 1, lmcore is faster",
        "",
    ]
    lines += [line_of(one, found) for one in measured]
    lines += [f"  {side:13} not installed" for side in found["missing"]]
    if not same(measured):
        lines.append("NOT THE SAME WORK: the ids or the documents differ")
    elif len(measured) > 1:
        lines.append("the ids are equal, document by document")
    return "\n".join(lines)


def line_of(one: Measured, found: dict[str, Any]) -> str:
    """The line of one side."""
    if one.failed:
        return f"  {one.side:13} failed: {one.failed}"
    wall, processor, added = (
        median(told[name] for told in one.rounds)
        for name in ("wall_seconds", "processor_seconds", "import_seconds")
    )
    cells = [
        f"  {one.side:13} {wall:7.2f} s  {found['bytes'] / 1e6 / wall:6.1f} MB/s",
        f"{processor:7.2f} processor s  import {added:5.2f} s",
        f"{one.rounds[0]['file_bytes'] / 1e6:7.1f} MB written",
    ]
    ours = [us for us in found["measured"] if us.side in OURS and us.rounds and not us.failed]
    if one.side not in OURS:
        cells += [
            f"{ratio(one, us, 'wall_seconds'):5.2f} x {us.side} "
            f"({ratio(one, us, 'processor_seconds'):.2f} by processor)"
            for us in ours
        ]
    return "  ".join(cells)


def ratio(theirs: Measured, ours: Measured, name: str) -> float:
    """Their time over ours, the median of the rounds."""
    return median(
        a[name] / max(b[name], 1e-9) for a, b in zip(theirs.rounds, ours.rounds, strict=False)
    )
