"""Prove that a refactor changed nothing: `python -m benchmarks.same_losses REV [REV]`.

Each revision is checked out into a folder of its own and trains the same small run, quickstart's
model on 40 steps of its text. Every loss, gradient norm and learning rate must be the same to the
last bit, and so must the digest of the weights. One revision is compared with the files as they
are. Exit status 0 where they agree.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "engine": "none",
    "name": "same",
    "log-every": "1",
    "evaluation.samples": "0",
    "corpus.n-train-stories": "800",
    "corpus.n-valid-stories": "20",
    "tokenizer.vocab-size": "512",
    "model.context-length": "128",
    "training.tokens": "40960",
    "training.warmup-steps": "5",
    "training.validate-every": "20",
}
COMPARED = ("loss", "grad_norm", "lr")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_losses", description=__doc__)
    parser.add_argument("revisions", nargs="+", metavar="REV", help="one or two revisions of git")
    revisions = parser.parse_args().revisions
    if len(revisions) > 2:
        parser.error("one or two revisions")
    names = [*revisions, "the files as they are"][:2]
    with tempfile.TemporaryDirectory(prefix="same-losses-") as folder:
        projects = [checkout(each, Path(folder) / f"{n}") for n, each in enumerate(revisions)]
        projects = [*projects, ROOT][:2]
        runs = [train(each, Path(folder) / f"artifacts-{n}") for n, each in enumerate(projects)]
        allow_removal(Path(folder))
    return compare(names, *runs)


def allow_removal(folder: Path) -> None:
    """Artifacts are read-only, and so are their folders; the temporary folder must go."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)


def checkout(revision: str, folder: Path) -> Path:
    """The files of a revision, in a folder of their own."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    if archive.returncode:
        sys.exit(f"git knows no revision {revision!r}: name a commit, a branch or a tag")
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    return folder


def train(project: Path, artifacts: Path) -> tuple[list[dict], str]:
    """Train the small run with a project's code; its log, and the digest of its weights."""
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    subprocess.run(
        [sys.executable, "flows/pipeline.py", *settings, "--artifacts", str(artifacts)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    run = artifacts / "runs" / "same"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "pretrain" / "result.json").read_text())
    return [each for each in records if each["kind"] == "train"], result["weights"]["last"]


def compare(names: list[str], first: tuple[list[dict], str], second: tuple[list[dict], str]) -> int:
    """Say where two runs differ, or that they do not; the exit status."""
    (before, digest), (after, other_digest) = first, second
    pairs = list(zip(before, after, strict=True))
    differing = [(a, b) for a, b in pairs if any(a[name] != b[name] for name in COMPARED)]
    for a, b in differing[:5]:
        told = ", ".join(f"{name} {a[name]!r} and {b[name]!r}" for name in COMPARED)
        print(f"step {a['step']}: {told}")
    print(f"{names[0]} and {names[1]}:")
    print(f"  {len(pairs) - len(differing)} of {len(pairs)} steps are the same to the last bit")
    print(f"  weights {digest[:16]} and {other_digest[:16]}")
    return int(bool(differing) or digest != other_digest)


if __name__ == "__main__":
    sys.exit(main())
