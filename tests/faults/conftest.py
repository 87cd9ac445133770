"""A small run, made once, and the command line called as a user calls it.

Where no process boundary is at stake the training jobs run in this process, which has torch
imported already; `processes` asks for the real ones.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.trainer.job import Job, read_job, write_job
from tests.faults.damage import contents

# A corpus of 60 stories, a model of 13 thousand parameters, 20 steps: about two seconds.
SMALL = (
    *("--engine", "none", "--name", "small", "--evaluation.samples", "0"),
    *("--corpus.n-train-stories", "60", "--corpus.n-valid-stories", "4"),
    *("--tokenizer.vocab-size", "300", "--model.context-length", "32", "--model.d-model", "16"),
    *("--model.n-heads", "2", "--model.n-layers", "1", "--training.batch-size", "4"),
    *("--training.tokens", "2560", "--training.warmup-steps", "2"),
    *("--training.validate-every", "10", "--checkpoint-every", "5", "--log-every", "1"),
    *("--numerics.threads", "1", "--numerics.compile", "off"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    def refused(self, *mentions: str) -> None:
        """It failed as a command should: an error on standard error that mentions these."""
        assert self.status == 1, self
        assert self.err.startswith("error: "), self
        assert "Traceback" not in self.err + self.out, self
        lines = self.err.rstrip("\n").split("\n")
        assert all(line.startswith("- ") for line in lines[1:]), self
        for mention in mentions:
            assert mention in self.err, self


@pytest.fixture(autouse=True)
def without_prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pipeline as plain functions, whatever engine other tests have imported it under."""
    import flows

    before = sys.modules.pop("flows.pipeline", None)
    monkeypatch.setenv("LMCORE_ENGINE", "none")
    yield
    sys.modules.pop("flows.pipeline", None)
    if before is not None:
        sys.modules["flows.pipeline"] = before
        flows.pipeline = before  # pyright: ignore[reportAttributeAccessIssue]


def launch_here(job: Job, notify: Callable, keep_open: object = ()) -> None:
    """What `flows.trainer.launch.launch` does, in this process."""
    from flows import worker

    path = Path(job.work_dir) / "job.json"
    write_job(job, path)
    try:
        job = read_job(path)
    finally:
        path.unlink()
    worker.say, said = notify, worker.say
    try:
        worker.run(job)
    finally:
        worker.say = said


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training and evaluation in this process, torch left as it was; no curve is drawn (0.5 s)."""
    import torch

    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    precision = torch.get_float32_matmul_precision()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    for stage in ("pretrain", "evaluate"):
        monkeypatch.setattr(f"flows.stages.{stage}.launch", launch_here)
    monkeypatch.setattr(
        "flows.report.collect.draw_loss", lambda records, path, result: path.touch()
    )
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact)
    torch.set_float32_matmul_precision(precision)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # pyright: ignore


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`python flows/pipeline.py WORDS`, in this process."""
    from flows.cli import main

    def call(*words: object) -> Ended:
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return Ended(status, said.out, said.err)

    return call


@pytest.fixture
def lmcore(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`lmcore WORDS`, in this process."""
    from flows import cli

    def call(*words: object) -> Ended:
        capsys.readouterr()
        status = cli.lmcore([str(word) for word in words])
        said = capsys.readouterr()
        return Ended(status, said.out, said.err)

    return call


@pytest.fixture
def small(command: Callable[..., Ended], in_process: None) -> Callable[..., Ended]:
    """The small run of a preset, with other words put over it."""

    def call(artifacts: Path, *words: object, preset: str = "quickstart") -> Ended:
        return command(preset, *SMALL, "--artifacts", artifacts, *words)

    return call


_made: dict[str, Path] = {}


@pytest.fixture
def artifacts(
    small: Callable[..., Ended], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder in which the small run has been made; each test has a copy of its own."""
    if "root" not in _made:
        root = tmp_path_factory.mktemp("small") / "artifacts"
        ended = small(root)
        assert ended.status == 0, ended
        _made["root"] = root
    copy = tmp_path / "artifacts"
    shutil.copytree(_made["root"], copy, symlinks=True)
    return copy


@pytest.fixture
def untouched(artifacts: Path) -> Iterator[Path]:
    """A made run's folder; the test fails where a file of it is lost, changed or added."""
    before = contents(artifacts)
    yield artifacts
    assert contents(artifacts) == before


def record_of(artifacts: Path, stage: str) -> dict:
    """The record of a stage of the small run."""
    return json.loads((artifacts / "runs" / "small" / stage / "record.json").read_text())
