"""Both sides: from one file of JSON lines to Parquet files of ids.

Ours is the pipeline's stage as a run calls it, its batches shared out to threads and processes.
Theirs is what the documentation of `datasets` shows: load, map in batches over processes, write;
with the Hugging Face tokenizer that `benchmarks.tokenizer` uses. Each is given what favours it:
theirs stores ids as uint16, writes no other column, and has its tokenizer before the clock starts;
its processes inherit it.
"""

import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from benchmarks.tokenizer.engines import SPECIAL, Encoder, encoder
from benchmarks.tokenizer.worker import read_vocabulary

Side = Literal["lmcore", "lmcore+numba", "datasets"]
PACKAGES: dict[Side, tuple[str, ...]] = {
    "lmcore": ("numpy", "pyarrow"),
    "lmcore+numba": ("numba",),
    "datasets": ("datasets", "tokenizers"),
}


class Work(NamedTuple):
    """What both sides are given.

    text: JSON lines, a document each under ``text``.
    valid: as little of the same, for the stage has a second text.
    tokenizer: our file of the vocabulary.
    vocabulary: the same vocabulary, for the other side.
    cores: how many threads or processes encode.
    """

    text: Path
    valid: Path
    tokenizer: Path
    vocabulary: Path
    cores: int


def prepare(side: Side, work: Work, folder: Path) -> Callable[[], list[Path]]:
    """Import what the side needs; what is returned does the work, and returns the files made.

    Args:
      side: whose way.
      work: the same for all.
      folder: an empty one; the files and whatever else is written go there.
    """
    if side == "datasets":
        return _theirs(work, folder)
    return _ours(work, folder, side)


def _ours(work: Work, folder: Path, side: Side) -> Callable[[], list[Path]]:
    if side == "lmcore":
        sys.modules["numba"] = None  # type: ignore[assignment]  # as where it is not installed
    from flows.conductor.shards import map_shards
    from flows.corpora.config import ReadingConfig
    from flows.progress.events import silent
    from flows.stages import pretokenize

    out, unfinished = folder / "out", folder / "work"
    out.mkdir()
    unfinished.mkdir()

    def work_on_it() -> list[Path]:
        pretokenize.run(
            pretokenize.PretokenizeConfig(end_of_text=SPECIAL),
            ReadingConfig(format="jsonl"),
            {"train": work.text, "valid": work.valid},
            work.tokenizer,
            "0" * 64,
            out,
            unfinished,
            silent,
            partial(map_shards, runner="auto", workers=work.cores),
        )
        return sorted(out.glob("train-*.parquet"))

    return work_on_it


_hugging_face: list[Encoder] = []  # in a place that forked processes inherit


def _theirs(work: Work, folder: Path) -> Callable[[], list[Path]]:
    import datasets  # pyright: ignore[reportMissingImports]

    datasets.disable_caching()
    datasets.disable_progress_bars()
    _hugging_face[:] = [encoder("huggingface", read_vocabulary(work.vocabulary), folder)]

    def work_on_it() -> list[Path]:
        texts = datasets.load_dataset(
            "json", data_files=str(work.text), split="train", cache_dir=str(folder / "cache")
        )
        tokens = texts.map(
            encode_batch,
            batched=True,
            num_proc=work.cores if work.cores > 1 else None,
            remove_columns=["text"],
            features=datasets.Features({"ids": datasets.Sequence(datasets.Value("uint16"))}),
        )
        tokens.to_parquet(str(folder / "train.parquet"))
        return [folder / "train.parquet"]

    return work_on_it


def encode_batch(batch: dict[str, list[str]]) -> dict[str, Any]:
    """What `datasets` maps: arrays, which it stores faster than lists."""
    return {"ids": [np.array(ids, np.uint16) for ids in _hugging_face[0].lists(batch["text"])]}


def digest_of(files: list[Path]) -> dict[str, Any]:
    """How much the files hold, and a digest of the ids and of where documents end."""
    ids, lengths = sha256(), sha256()
    n_documents = n_tokens = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024, columns=["ids"]):
                column = batch.column(0)
                found = column.flatten().to_numpy().astype("<u4")
                counts = np.diff(column.offsets.to_numpy()).astype("<i8")
                ids.update(found.tobytes())
                lengths.update(counts.tobytes())
                n_documents, n_tokens = n_documents + len(counts), n_tokens + len(found)
    return {
        "digest": sha256(ids.digest() + lengths.digest()).hexdigest(),
        "n_documents": n_documents,
        "n_tokens": n_tokens,
        "file_bytes": sum(path.stat().st_size for path in files),
    }
