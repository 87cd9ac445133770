"""What a training process is asked to do, as a value that travels in a JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.trainer.numerics import Resolved
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig


@dataclass(frozen=True)
class Job:
    """One job: the stage, what it means, how it is executed, and where it reads and writes."""

    stage: str
    model: ModelConfig
    training: TrainingConfig
    numerics: Resolved
    train_tokens: str = ""
    valid_tokens: str = ""
    weights: str = ""
    tokenizer: str = ""
    work_dir: str = ""
    out_dir: str = ""
    compiled: str = ""
    metrics: str = ""
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    settings: dict = field(default_factory=dict)


def checkpoints_of(job: Job) -> Path:
    """The folder of a run's checkpoints."""
    return Path(job.work_dir) / "checkpoints"


def write_job(job: Job, path: Path) -> None:
    path.write_text(json.dumps(asdict(job), indent=2))


def read_job(path: Path) -> Job:
    value = json.loads(path.read_text())
    return Job(
        **{
            **value,
            "model": ModelConfig(**value["model"]),
            "training": TrainingConfig(**value["training"]),
            "numerics": Resolved(**value["numerics"]),
        }
    )
