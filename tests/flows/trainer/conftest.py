"""A training job on the tokens of the tiny run, worked on in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.formats.token_map_builder import token_map
from flows.trainer.job import Job
from flows.trainer.numerics import Resolved
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig
from tests.flows.tiny_run import Finished, training_here

NewJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """What training pins in torch is undone after each test."""
    with training_here():
        yield


@pytest.fixture(scope="session")
def token_maps(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The memory maps of the tiny run's tokens."""
    folder, facts = finished.artifact("pretokenize"), finished.record("pretokenize")["facts"]
    cache = tmp_path_factory.mktemp("maps")
    return {
        split: token_map(
            [folder / name for name in facts[split]["files"]], cache, digest=facts[split]["digest"]
        ).path
        for split in ("train", "valid")
    }


@pytest.fixture
def new_job(finished: Finished, token_maps: dict[str, Path], tmp_path: Path) -> NewJob:
    """The tiny run's training job, in folders of its own; settings may be put over it."""
    record = finished.record("pretrain")

    def make(name: str = "job", **settings: object) -> Job:
        work, out = tmp_path / name / "work", tmp_path / name / "out"
        work.mkdir(parents=True)
        out.mkdir()
        job = Job(
            stage="pretrain",
            model=ModelConfig(**record["key"]["settings"]["model"]),
            training=TrainingConfig(**record["key"]["settings"]["training"]),
            numerics=Resolved(**record["facts"]["numerics"]),
            train_tokens=str(token_maps["train"]),
            valid_tokens=str(token_maps["valid"]),
            tokenizer=str(finished.artifact("tokenizer") / "tokenizer.json"),
            work_dir=str(work),
            out_dir=str(out),
            metrics=str(work / "metrics.jsonl"),
            log_every=1,
            checkpoint_every=5,
        )
        return replace(job, **settings)  # type: ignore[arg-type]

    return make
