"""A training job from nothing but numpy: no tokenizer, no Parquet, no run before it."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.formats.token_map import BYTES, MANIFEST, OFFSETS, TOKENS
from flows.formats.tokenizer_json import save_tokenizer
from flows.trainer.job import Job, write_job
from flows.trainer.lifeline import environment
from flows.trainer.numerics import Resolved, instruction_set
from lmcore.model.config import ModelConfig
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
VOCAB_SIZE = 259  # the bytes, and three special tokens
EOS = 1

# What only the pipeline around a training process needs; a machine that trains may have none.
PIPELINE_PACKAGES = ("prefect", "pyarrow", "tyro", "pydantic", "httpx", "rich", "matplotlib")
BLOCKER = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {PIPELINE_PACKAGES!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked here", name=name)

sys.meta_path.insert(0, Blocked())
"""


def blocking(folder: Path) -> str:
    """A folder for PYTHONPATH in which a Python finds none of the pipeline's packages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(BLOCKER)
    return str(folder)


def write_map(folder: Path, n_documents: int, seed: int) -> Path:
    """A token map of documents that count upwards: a text that a small model learns quickly."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 90, n_documents)
    documents = [3 + (first + np.arange(n)) % 50 for first, n in enumerate(lengths)]
    stream = np.concatenate([part for ids in documents for part in ([EOS], ids)] + [[EOS]])
    stream.astype("<u2").tofile(folder / TOKENS)
    np.save(folder / OFFSETS, np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int64))
    np.save(folder / BYTES, lengths.astype(np.int64))
    data = {name: (folder / name).read_bytes() for name in (TOKENS, OFFSETS, BYTES)}
    files = {
        name: {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest()}
        for name, held in data.items()
    }
    facts = {"eos_id": EOS, "vocab_size": VOCAB_SIZE, "digest": "0" * 64, "dtype": "uint16"}
    (folder / MANIFEST).write_text(json.dumps(facts | {"files": files}))
    return folder


def new_job(folder: Path, device: str = "cpu", **settings: Any) -> Job:
    """A job of 12 steps in folders of its own; settings may be put over it."""
    import torch

    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True)
    out.mkdir()
    tokens = {split: folder / "maps" / split for split in ("train", "valid")}
    write_map(tokens["train"], 60, seed=1)
    write_map(tokens["valid"], 6, seed=2)
    job = Job(
        stage="pretrain",
        model=ModelConfig(
            vocab_size=VOCAB_SIZE, context_length=32, d_model=32, n_layers=2, n_heads=2
        ),
        training=TrainingConfig(
            tokens=12 * 4 * 32, batch_size=4, warmup_steps=2, validate_every=6, precision="float32"
        ),
        numerics=Resolved(
            device=device,
            compile=False,
            micro_batch=4,
            threads=1,
            processes=1,
            torch=torch.__version__,
            machine="",
            instruction_set=instruction_set(),
        ),
        train_tokens=str(tokens["train"]),
        valid_tokens=str(tokens["valid"]),
        work_dir=str(work),
        out_dir=str(out),
        metrics=str(work / "metrics.jsonl"),
        log_every=1,
        checkpoint_every=5,
    )
    return replace(job, **settings)


def evaluation_of(job: Job) -> Job:
    """The evaluation of a job that has trained, with two samples; its tokenizer knows bytes."""
    vocab = [b"<pad>", b"<eos>", b"<bos>", *(bytes([byte]) for byte in range(256))]
    path = Path(job.out_dir) / "tokenizer.json"
    special = ("<pad>", "<eos>", "<bos>")
    save_tokenizer(path, Tokenizer(vocab, {}, special))
    asked = {"samples": 2, "prompt": "a", "max_new_tokens": 5, "temperature": 1.0}
    settings = asked | {
        "top_k": 0,
        "top_p": 0.9,
        "seed": 0,
        "known_entropy": False,
        "reference": {},
    }
    weights = str(Path(job.out_dir) / "model.safetensors")
    return replace(job, stage="evaluate", weights=weights, tokenizer=str(path), settings=settings)


def start_worker(job: Job, *import_first: str) -> subprocess.Popen[str]:
    """The training process of a job, as the pipeline starts it."""
    path = Path(job.work_dir) / f"{job.stage}.json"
    write_job(job, path)
    paths = os.pathsep.join([*import_first, str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "flows.worker", str(path)],
        env=os.environ | environment(job.numerics.threads, job.compiled) | {"PYTHONPATH": paths},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_worker(job: Job, *import_first: str) -> None:
    """The training process of a job, to its end."""
    finish(start_worker(job, *import_first))


def finish(worker: subprocess.Popen[str]) -> None:
    """Wait for a worker, which succeeds."""
    said, _ = worker.communicate()
    assert worker.returncode == 0, said[-4000:]


def result_of(job: Job) -> dict[str, Any]:
    """What a finished training says of itself."""
    return json.loads((Path(job.out_dir) / "result.json").read_text())
