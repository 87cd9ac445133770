"""Measuring a model on text, and letting it write: the effects around `lmcore.evaluation`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flows.formats.token_map import TokenMap, open_token_map
from flows.formats.tokenizer_json import load_tokenizer
from flows.progress.events import Event, Notify
from flows.trainer.job import Job
from flows.trainer.reproducible import pin
from flows.trainer.validation import DTYPES
from lmcore.evaluation import bands, floor
from lmcore.evaluation.reference import bigram_loss
from lmcore.evaluation.scoring import score_documents
from lmcore.evaluation.tally import Measurement, Tally, combine, measurements
from lmcore.generation.generate import generate
from lmcore.model.config import ModelConfig
from lmcore.model.counts import count_params
from lmcore.params import Params
from lmcore.tokenizer.tokenizer import Tokenizer


def evaluate(job: Job, say: Notify) -> None:
    """Measure the whole validation set and write samples, into ``evaluation.json``."""
    from safetensors.torch import load_file

    pin(job.numerics)
    params = load_file(job.weights, device=job.numerics.device)
    valid = open_token_map(Path(job.valid_tokens), verify="size")
    tokenizer = load_tokenizer(Path(job.tokenizer))

    def progress(done: int, total: int) -> None:
        data = {"done": done, "total": total, "unit": "windows", "label": "validation"}
        say(Event("progress", "evaluate", data=data))

    by_document = score_documents(
        params,
        job.model,
        valid.tokens,
        valid.document_offsets,
        valid.document_bytes,
        compute_dtype=DTYPES[job.training.precision],
        progress=progress,
    )
    tally = combine(by_document)
    train = open_token_map(Path(job.train_tokens), verify="size")
    bigram = bigram_loss(train.tokens, valid.tokens, valid.vocab_size)
    known = None
    if job.settings["known_entropy"]:
        found = np.array([one.nats for one in by_document])
        known = floor.compare(texts(valid, tokenizer), found)
    result = {
        **facts(tally, bigram),
        "measurements": [asdict(row) for row in table(tally, bigram, known)],
        "remarks": [
            *(floor.remarks(known, tally) if known else []),
            *reference(job, tally, tokenizer.vocab_size),
            *remarks(tally, bigram),
        ],
    }
    if known is not None:
        result |= {"floor": known._asdict(), "floor_nats_per_token": known.nats / tally.tokens}
    out_dir = Path(job.out_dir)
    (out_dir / "evaluation.json").write_text(json.dumps(result, indent=2))
    written = list(samples(params, job, tokenizer, valid.eos_id, say))
    text = json.dumps(written, indent=2, ensure_ascii=False)
    (out_dir / "samples.json").write_text(text, encoding="utf-8")


def texts(tokens: TokenMap, tokenizer: Tokenizer) -> list[str]:
    """The documents of a token map as text."""
    offsets = tokens.document_offsets
    return [
        tokenizer.decode(tokens.tokens[start + 1 : end].tolist())
        for start, end in pairwise(offsets)
    ]


def facts(tally: Tally, bigram: float) -> dict[str, Any]:
    """The figures by name."""
    return {
        "loss": tally.loss,
        "perplexity": tally.perplexity,
        "bits_per_byte": tally.bits_per_byte,
        "tokens": tally.tokens,
        "bytes": tally.bytes,
        "documents": tally.documents,
        "bigram_loss": bigram,
    }


def table(tally: Tally, bigram: float, known: floor.Comparison | None) -> list[Measurement]:
    """The result table; what the floor says stands after the three figures that it is about."""
    rows = measurements(tally, bigram_loss=bigram)
    return [*rows[:3], *(floor.measurements(known, tally) if known else []), *rows[3:]]


def reference(job: Job, tally: Tally, vocab_size: int) -> list[str]:
    """Where the result lies among published ones; nothing where the corpus has none."""
    known = job.settings["reference"]
    if not known:
        return []
    return bands.remarks(
        known["corpus"],
        n_params=count_params(job.model).non_embedding,
        loss=tally.loss,
        bits_per_byte=tally.bits_per_byte,
        vocab_size=vocab_size,
        n_tokens=known["n_tokens"],
    )


def remarks(tally: Tally, bigram: float) -> list[str]:
    """Sentences about the result, for whoever reads the table."""
    gap = bigram - tally.loss
    side = "below" if gap >= 0 else "above"
    verdict = "" if gap >= 0 else ": give it more --training.tokens"
    return [
        f"the loss is {abs(gap):.3f} nats a token {side} that of a bigram model of the same "
        f"tokens{verdict}",
        "perplexity compares only with the same tokenizer; bits per byte compare with any",
    ]


def samples(params: Params, job: Job, tokenizer: Tokenizer, eos_id: int, say: Notify):
    """Texts that the model writes, each with its seed and what is known of it."""
    settings = job.settings
    for n in range(settings["samples"]):
        data = {"done": n, "total": settings["samples"], "unit": "samples"}
        say(Event("progress", "evaluate", data=data))
        seed = settings["seed"] + n
        text = write_text(params, job.model, tokenizer, eos_id=eos_id, seed=seed, **asked(settings))
        note = floor.describe(text) if settings["known_entropy"] else ""
        yield {"seed": seed, "text": text, "note": note, "prompt": settings["prompt"]}


def asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of generation."""
    names = ("prompt", "max_new_tokens", "temperature", "top_k", "top_p")
    return {name: settings[name] for name in names}


def write_text(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    *,
    eos_id: int,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> str:
    """A text of the model's, prompt included; a document begins after an end-of-text token."""
    prompt_ids = [eos_id, *tokenizer.encode(prompt, allow_special=False)]
    with torch.no_grad():
        ids = generate(
            params, model, prompt_ids, max_new_tokens, temperature, top_k, top_p, seed, (eos_id,)
        )
    return prompt + tokenizer.decode(ids)
