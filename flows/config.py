"""A run as a value: one frozen slice for each thing that a stage means, and how it is executed.

Each slice stands beside the code that it configures; here they are composed. What lies in
`RunConfig`, apart from `numerics`, is *meaning*: it is part of the key of the artifacts it decides.
`numerics` changes the last bits only. `Execution` changes no bit at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated, Literal

from tyro.conf import arg

from flows.corpora.config import ReadingConfig, SourceConfig
from flows.stages.evaluate import EvaluationConfig
from flows.stages.pretokenize import PretokenizeConfig
from flows.trainer.numerics import Numerics
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.tokenizer.config import TokenizerConfig
from lmcore.training.config import TrainingConfig


@dataclass(frozen=True)
class RunConfig:
    """What a run means; equal values give equal artifacts."""

    source: Annotated[SourceConfig, arg(name="corpus")] = field(default_factory=SourceConfig)
    reading: Annotated[ReadingConfig, arg(name="corpus")] = field(default_factory=ReadingConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    pretokenize: PretokenizeConfig = field(default_factory=PretokenizeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    numerics: Numerics = field(default_factory=Numerics)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; no field changes a bit of what is made."""

    name: str = ""
    """Name of the run's folder; empty takes the preset's name and a digest of the settings."""
    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""
    engine: Literal["prefect", "none"] = "prefect"
    """Prefect conducts and shows the run; none calls the same five stages as plain functions."""
    verify: Literal["standard", "full"] = "standard"
    """How much of a large artifact is read again before it is reused; full reads every byte."""
    workers: int = 0
    """Shards of text worked on at once (counting words, pretokenizing); 0 takes every core."""
    runner: Literal["auto", "threads", "processes", "dask", "ray"] = "auto"
    """What works on the shards; auto begins with threads and goes on with processes."""
    log_every: int = 10
    """Training steps between two records of the metrics log."""
    checkpoint_every: int = 200
    """Training steps between two checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints kept beside the best one while training."""
    allow_drift: bool = False
    """Resume under other numerics than the run began with; the last bits will differ."""


def faults(execution: Execution) -> list[str]:
    """What is wrong with the execution settings, a line each."""
    least = {"workers": 0, "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 1}
    found = [
        f"--{name.replace('_', '-')} is {getattr(execution, name)}: it must be at least {low}"
        for name, low in least.items()
        if getattr(execution, name) < low
    ]
    if not is_plain_name(execution.name or "run"):
        found.append(
            f"--name is {execution.name!r}: it names a folder, so it may hold letters, digits, "
            "dots, dashes and underscores, and must begin with a letter or a digit"
        )
    return [*found, *runner_faults(execution)]


def runner_faults(execution: Execution) -> list[str]:
    """What keeps the runner from being used, known before the stage that needs it."""
    runner = execution.runner
    if runner not in ("dask", "ray"):
        return []
    if execution.engine == "none":
        return [
            f"--runner {runner} is one of Prefect's task runners, and --engine none does without "
            "Prefect: take --engine prefect, or --runner processes"
        ]
    if find_spec(f"prefect_{runner}") is None:
        return [
            f"--runner {runner} needs a package that is not installed: "
            f'pip install "lmcore[{runner}]", or take --runner threads'
        ]
    return []


def is_plain_name(name: str) -> bool:
    """Whether a name can be a folder's name and nothing else."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
    return 0 < len(name) <= 100 and name[0].isalnum() and set(name) <= allowed


def refuse(faults: Sequence[str]) -> None:
    """Raise one error that lists all faults, if there are any.

    Raises:
      InputError: there are.
    """
    if len(faults) == 1:
        raise InputError(faults[0])
    if faults:
        raise InputError("\n".join([f"{len(faults)} things to mend:", *(f"- {f}" for f in faults)]))
