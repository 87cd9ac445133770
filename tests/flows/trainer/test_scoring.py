"""Measuring a trained model, and letting it write."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.formats.token_map import open_token_map
from flows.formats.tokenizer_json import load_tokenizer
from flows.presets import preset
from flows.progress.events import Event
from flows.stages.evaluate import EvaluationConfig
from flows.trainer import scoring
from flows.trainer.job import Job
from lmcore.evaluation.tally import Tally
from lmcore.model.init import init_params
from lmcore.synthetic.stories import story_log2_probability
from tests.flows.tiny_run import Finished

NewJob = Callable[..., Job]
ASKED: dict[str, Any] = dict(prompt="", max_new_tokens=6, temperature=1.0, top_k=0, top_p=1.0)  # noqa: C408


@pytest.fixture
def evaluation(new_job: NewJob, finished: Finished) -> Job:
    """The tiny run's evaluation."""
    settings = vars(EvaluationConfig(samples=2, max_new_tokens=8)) | {
        "known_entropy": True,
        "reference": {},
    }
    weights = finished.artifact("pretrain") / "model.safetensors"
    return new_job(stage="evaluate", weights=str(weights), settings=settings)


def result_of(job: Job) -> dict:
    scoring.evaluate(job, lambda event: None)
    return json.loads((Path(job.out_dir) / "evaluation.json").read_text())


def test_whole_validation_set_is_measured(evaluation: Job) -> None:
    """Every document and every byte of the validation text is scored, each exactly once."""
    valid = open_token_map(Path(evaluation.valid_tokens), verify="size")
    result = result_of(evaluation)
    n_documents = len(valid.document_offsets) - 1
    assert result["documents"] == n_documents == 6
    # Each document's tokens, and the end of text after it.
    assert result["tokens"] == int(valid.document_offsets[-1] - valid.document_offsets[0])
    assert result["bytes"] == int(valid.document_bytes.sum())
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    bits = result["loss"] * result["tokens"] / math.log(2) / result["bytes"]
    assert result["bits_per_byte"] == pytest.approx(bits)


def test_floor_is_that_of_the_same_stories(evaluation: Job, finished: Finished) -> None:
    """The known entropy is that of the stories measured, which no model is below."""
    result = result_of(evaluation)
    text = (finished.artifact("download") / "valid").read_text()
    stories = [story.strip("\n") for story in text.split("<|endoftext|>") if story.strip()]
    bits = -sum(story_log2_probability(story) for story in stories)
    assert result["floor"]["nats"] == pytest.approx(bits * math.log(2))
    assert result["floor_nats_per_token"] < result["loss"]


def test_unknown_entropy_is_not_claimed(evaluation: Job) -> None:
    """Of a text that is not the embedded corpus no floor is told."""
    job = replace(evaluation, settings=evaluation.settings | {"known_entropy": False})
    result = result_of(job)
    assert "floor" not in result
    assert "entropy" not in json.dumps(result)


def test_run_on_a_published_corpus_is_held_against_it(evaluation: Job) -> None:
    """Corpus and tokens come from the settings, size from the model; elsewhere nothing is said."""
    model = replace(preset("cs336").model, vocab_size=10_000)
    known = {"corpus": "tinystories", "n_tokens": 327_680_000}
    job = replace(evaluation, model=model, settings=evaluation.settings | {"reference": known})
    tally = Tally(nats=1.40 * 1000, tokens=1000, bytes=4000, documents=9)
    rough, exact = scoring.reference(job, tally, 10_000)
    assert "TinyStories, 10M parameters: perplexity 18.0 to 22.0" in rough
    assert "loss 1.45 or less" in exact
    assert "this run: 4.1, inside (vocabulary 10,000, 0.5049 bits per byte)" in exact
    assert scoring.reference(evaluation, tally, 10_000) == []


def test_samples_have_their_seeds(evaluation: Job) -> None:
    """Each sample is what its seed writes, alone or among others."""
    result_of(evaluation)
    written = json.loads((Path(evaluation.out_dir) / "samples.json").read_text())
    assert [sample["seed"] for sample in written] == [0, 1]
    alone = replace(evaluation, settings=evaluation.settings | {"samples": 1, "seed": 1})
    result_of(alone)
    (again,) = json.loads((Path(alone.out_dir) / "samples.json").read_text())
    assert again == written[1]


def test_same_seed_same_text(new_job: NewJob) -> None:
    """A text is decided by its seed; another seed writes another."""
    job = new_job()
    tokenizer = load_tokenizer(Path(job.tokenizer))
    params = init_params(job.model, 0)
    texts = [
        scoring.write_text(params, job.model, tokenizer, eos_id=1, seed=seed, **ASKED)
        for seed in (3, 3, 4)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_prompt_begins_the_text(new_job: NewJob) -> None:
    """A prompt is kept as it was given, also where it looks like a special token."""
    job = new_job()
    tokenizer = load_tokenizer(Path(job.tokenizer))
    params = init_params(job.model, 0)
    for prompt in ("Once upon", "<eos> é", " "):
        asked: dict[str, Any] = ASKED | {"prompt": prompt}
        text = scoring.write_text(params, job.model, tokenizer, eos_id=1, seed=0, **asked)
        assert text.startswith(prompt)
        assert len(text) > len(prompt)


def test_model_worse_than_a_bigram_is_told(evaluation: Job) -> None:
    """The remarks say on which side of a bigram model of the same tokens the loss is."""
    result = result_of(evaluation)
    side = "above" if result["loss"] > result["bigram_loss"] else "below"
    assert any(f"{side} that of a bigram model" in remark for remark in result["remarks"])


def test_progress_ends_at_the_whole(evaluation: Job) -> None:
    """The windows told as done end at their number."""
    events: list[Event] = []
    scoring.evaluate(evaluation, events.append)
    windows = [event.data for event in events if event.data.get("unit") == "windows"]
    assert windows[-1]["done"] == windows[-1]["total"] > 0
