"""How good the model is: the whole validation set, and samples."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flows.progress.events import Notify
from flows.stages.product import Product
from flows.trainer.job import Job
from flows.trainer.launch import launch

RESULT, SAMPLES = "evaluation.json", "samples.json"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured of a trained model, and what it is asked to write."""

    weights: Literal["last", "best"] = "last"
    """Evaluate the weights of the last step, or those with the lowest validation loss."""
    samples: int = 3
    """Texts to generate; 0 generates none."""
    prompt: str = ""
    """What each sample begins with; empty begins a new document."""
    max_new_tokens: int = 250
    """Longest sample, in tokens; it ends sooner where the model ends the document."""
    temperature: float = 0.8
    """Below 1 samples are more alike, above 1 more varied; 0 takes the likeliest token."""
    top_k: int = 0
    """Choose among so many of the likeliest tokens; 0 among all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability."""
    seed: int = 0
    """Sample n is drawn with this seed plus n."""


def faults(config: EvaluationConfig) -> list[str]:
    """What is wrong with the settings, a line each."""
    rows = [
        ("samples", config.samples >= 0, "at least 0"),
        ("max_new_tokens", config.max_new_tokens >= 1, "at least 1"),
        ("temperature", 0 <= config.temperature < float("inf"), "at least 0"),
        ("top_k", config.top_k >= 0, "at least 0"),
        ("top_p", 0 < config.top_p <= 1, "above 0 and at most 1"),
        ("seed", 0 <= config.seed < 1 << 62, "from 0 to 2^62"),
    ]
    return [
        f"{name} is {getattr(config, name)}: it must be {expected}; change "
        f"--evaluation.{name.replace('_', '-')}"
        for name, holds, expected in rows
        if not holds
    ]


def chosen_weights(trained: Path, wanted: Literal["last", "best"]) -> Path:
    """The file of the weights to evaluate.

    Args:
      trained: the artifact of ``pretrain``. It has best weights only where they are not the last.
      wanted: as in the settings.
    """
    best = trained / "best.safetensors"
    return best if wanted == "best" and best.exists() else trained / "model.safetensors"


def run(job: Job, trained: Path, notify: Notify, keep_open: Sequence[int] = ()) -> Product:
    """Measure and sample as ``job`` says, in a process of its own.

    Args:
      job: its settings are those of evaluation; its weights are chosen here.
      trained: the artifact of ``pretrain``.
      notify: who is told what happens.
      keep_open: descriptors that the process inherits.

    Raises:
      InputError: the process found something that the user can mend.
    """
    weights = chosen_weights(trained, job.settings["weights"])
    job = replace(job, weights=str(weights))
    launch(job, notify, keep_open)
    result = json.loads((Path(job.out_dir) / RESULT).read_text())
    return Product(facts=result)
