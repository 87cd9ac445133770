"""Let the model of a run write: `lmcore sample --run RUN --prompt "Once upon a time"`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.arguments import read_words
from flows.formats.tokenizer_json import load_tokenizer
from flows.runs_folder import RunFolder, find_run
from flows.stages.evaluate import chosen_weights
from flows.trainer.numerics import choose_device
from lmcore.errors import InputError


@dataclass(frozen=True)
class Sample:
    """Let the model of a run write."""

    run: str = "latest"
    """Name of a run, or the beginning of one; latest is the one made last."""
    prompt: str = ""
    """What the text begins with; empty begins a new document."""
    samples: int = 1
    """How many texts."""
    max_new_tokens: int = 250
    """Longest text, in tokens; it ends sooner where the model ends the document."""
    temperature: float = 0.8
    """Below 1 texts are more alike, above 1 more varied; 0 takes the likeliest token."""
    top_k: int = 0
    """Choose among so many of the likeliest tokens; 0 among all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability."""
    seed: int = 0
    """Text n is drawn with this seed plus n."""
    weights: Literal["last", "best"] = "last"
    """The weights of the last step, or those with the lowest validation loss."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""


def main(words: list[str]) -> int:
    options = read_words(Sample, words, "lmcore sample", description=__doc__)
    if options.samples < 1:
        raise InputError(f"--samples is {options.samples}: it must be at least 1")
    run = find_run(Path(options.artifacts), options.run)
    for text in texts(run, options):
        print(text, flush=True)
        if options.samples > 1:
            print("-" * 40)
    return 0


def texts(run: RunFolder, options: Sample):
    """The texts, one after another."""
    from safetensors.torch import load_file

    from flows.trainer.scoring import write_text
    from lmcore.model.config import ModelConfig

    trained = run.artifact("pretrain")
    described = json.loads((trained / "model.json").read_text())
    weights = chosen_weights(trained, options.weights)
    params = load_file(weights, device=choose_device(options.device))
    tokenizer = load_tokenizer(run.artifact("tokenizer") / "tokenizer.json")
    end_of_text = run.description["config"]["pretokenize"]["end_of_text"]
    (eos_id,) = tokenizer.encode(end_of_text)
    for n in range(options.samples):
        yield write_text(
            params,
            ModelConfig(**described["model"]),
            tokenizer,
            eos_id=eos_id,
            prompt=options.prompt,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed + n,
        )
