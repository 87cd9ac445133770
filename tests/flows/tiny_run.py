"""A run small enough for tests: the words that ask for it, and ways to make it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.stages import evaluate, pretrain
from flows.trainer.job import Job

ROOT = Path(__file__).parents[2]
STAGES = ("download", "tokenizer", "pretokenize", "pretrain", "evaluate")

# 13 thousand parameters, 12 steps; what it means, and how it is executed.
MEANING = (
    *("--corpus.n-train-stories", "60", "--corpus.n-valid-stories", "6"),
    *("--tokenizer.vocab-size", "300", "--model.context-length", "32", "--model.d-model", "16"),
    *("--model.n-heads", "2", "--model.n-layers", "1"),
    *("--training.batch-size", "4", "--training.tokens", "1536", "--training.warmup-steps", "2"),
    *("--training.validate-every", "6"),
    *("--evaluation.samples", "2", "--evaluation.max-new-tokens", "8"),
)
NUMERICS = ("--numerics.device", "cpu", "--numerics.threads", "1", "--numerics.compile", "off")
EXECUTION = ("--name", "tiny", "--checkpoint-every", "5", "--log-every", "1")
TINY = (*MEANING, *NUMERICS, *EXECUTION)
STEPS = 12


@dataclass(frozen=True)
class Finished:
    """A run that has been made: its artifacts folder, and what it printed."""

    artifacts: Path
    output: str

    @property
    def folder(self) -> Path:
        return self.artifacts / "runs" / "tiny"

    def artifact(self, stage: str) -> Path:
        return (self.folder / stage).resolve()

    def record(self, stage: str) -> dict[str, Any]:
        return json.loads((self.artifact(stage) / "record.json").read_text())


def command(artifacts: Path, *words: str, engine: str = "none") -> list[str]:
    """The command that makes the tiny run, as a user types it; later words win."""
    door = [sys.executable, str(ROOT / "flows" / "pipeline.py"), "quickstart"]
    return [*door, *TINY, "--engine", engine, "--artifacts", str(artifacts), *words]


def environment() -> dict[str, str]:
    """The tests' environment, the code under test first on the path."""
    left_out = ("LMCORE_ENGINE", "PREFECT_API_URL")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def make(artifacts: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Make the tiny run in a process of its own, without Prefect."""
    return subprocess.run(
        command(artifacts, *words),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def digests(folder: Path) -> dict[str, str]:
    """Stage to content digest, of a run's folder."""
    artifacts = json.loads((folder / "run.json").read_text())["artifacts"]
    return {stage: made["digest"] for stage, made in artifacts.items()}


@contextmanager
def training_here() -> Iterator[None]:
    """Training and evaluation in this process, which has torch already; torch stays as it was."""
    import torch

    threads, exact = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    before = pretrain.launch, evaluate.launch
    pretrain.launch = evaluate.launch = launch_here
    try:
        yield
    finally:
        pretrain.launch, evaluate.launch = before
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(exact)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # pyright: ignore


def launch_here(job: Job, notify: Callable, keep_open: object = ()) -> None:
    """The work of a job, without a process of its own."""
    if job.stage == "pretrain":
        from flows.trainer.loop import pretrain as work
    else:
        from flows.trainer.scoring import evaluate as work
    work(job, notify)


def map_here(fn: Callable, items: list, **settings: object) -> list:
    """Shards, one after another."""
    return [fn(item) for item in items]
