"""One measurement of scale in a process of its own: ``… scale_worker JOB``.

The text is read as the stages read it, document by document, and reading is part of the time. The
peak of memory is that of the whole process, Python and its libraries too, and the peaks of its
workers where they are processes.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from benchmarks.tokenizer.worker import forget_peak, peak_bytes, peak_bytes_of, processor_seconds

GROWTH_PARTS = 6  # halves of halves of the text
WITHOUT_NUMBA = "LMCORE_BENCHMARK_WITHOUT_NUMBA"  # a folder to import from before all others
LOOK_EVERY_SECONDS = 0.02

if os.environ.get(WITHOUT_NUMBA):
    sys.path.insert(0, os.environ[WITHOUT_NUMBA])  # workers have the same path


@dataclass(frozen=True)
class Job:
    """What to measure.

    kind: training; encoding to Parquet; or training on ever longer beginnings of the text.
    text: the file.
    vocab_sizes: of the vocabularies trained; encoding uses the one in ``tokenizer``.
    folder: an empty one for what is written.
    tokenizer: the file that training writes and encoding reads.
    workers: how many count or encode at once.
    runner: what they are.
    """

    kind: Literal["train", "encode", "growth"]
    text: str
    vocab_sizes: tuple[int, ...]
    folder: str
    tokenizer: str = ""
    workers: int = 1
    runner: Literal["auto", "threads", "processes"] = "auto"


def main() -> None:
    print(json.dumps(measure(Job(**json.loads(sys.argv[1])))))


def measure(job: Job) -> Any:
    """Do the job; what is told depends on its kind."""
    return {"train": _train, "encode": _encode, "growth": _growth}[job.kind](job)


class _Clock:
    """Seconds by the clock, and of the processor, since it was made."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), _all_processor_seconds()

    def told(self) -> dict[str, float]:
        return {
            "wall": time.perf_counter() - self.wall,
            "processor": _all_processor_seconds() - self.processor,
        }


def _all_processor_seconds() -> float:
    """Of this process and of those of its workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return processor_seconds() + used.ru_utime + used.ru_stime


class _Watch(Thread):
    """Looks at the processes that this one starts, and keeps the peak of each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, int] = {}
        self.start()

    def run(self) -> None:
        mine = Path("/proc/self/cmdline").read_bytes() if Path("/proc/self").exists() else b""
        while True:
            for tasks in Path("/proc/self/task").glob("*/children"):
                with suppress(OSError):
                    for child in tasks.read_text().split():
                        # Until it runs a program of its own, its memory is its parent's.
                        if Path(f"/proc/{child}/cmdline").read_bytes() != mine:
                            self.peaks[child] = max(self.peaks.get(child, 0), peak_bytes_of(child))
            time.sleep(LOOK_EVERY_SECONDS)

    def all_peak_bytes(self) -> int:
        """Of this process, and of the others; where the system does not tell, of this one."""
        return peak_bytes() + sum(self.peaks.values())


def _map(job: Job) -> Any:
    """Calls a function on items, ``job.workers`` at once."""
    from flows.conductor.shards import map_shards

    return partial(map_shards, runner=job.runner, workers=job.workers)


class _Read:
    """The texts of a file, and how many bytes they had."""

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self.path, self.max_bytes, self.n_bytes = path, max_bytes, 0

    def __iter__(self) -> Iterator[str]:
        from flows.corpora.config import ReadingConfig
        from flows.corpora.documents import read_documents

        for document in read_documents(self.path, ReadingConfig(), max_bytes=self.max_bytes):
            self.n_bytes += len(document.text.encode())
            yield document.text


def _train(job: Job) -> dict[str, Any]:
    from flows.formats.tokenizer_json import save_tokenizer
    from lmcore.tokenizer.bpe import first_vocab
    from lmcore.tokenizer.config import DEFAULT_SPECIAL_TOKENS as SPECIAL
    from lmcore.tokenizer.fast_training import merge_words
    from lmcore.tokenizer.tokenizer import Tokenizer
    from lmcore.tokenizer.word_counts import count_words

    texts, watch = _Read(Path(job.text)), _Watch()
    clock = _Clock()
    at_once = _map(job) if job.workers > 1 else None
    words = count_words(texts, "gpt2", SPECIAL, map_in_order=at_once)
    count, counted_bytes = clock.told(), watch.all_peak_bytes()
    vocab = list(first_vocab(SPECIAL))
    clock = _Clock()
    merges = merge_words(words, vocab, job.vocab_sizes[0], lambda size: None)
    merge = clock.told()
    peak = watch.all_peak_bytes()
    if job.tokenizer:
        save_tokenizer(Path(job.tokenizer), Tokenizer(vocab, merges, SPECIAL))
    return {
        "bytes": texts.n_bytes,
        "words": len(words.lengths),
        "count": count,
        "merge": merge,
        "count_peak_bytes": counted_bytes,
        "peak_bytes": peak,
        "vocab_size": len(vocab),
    }


def _encode(job: Job) -> dict[str, Any]:
    from flows.corpora.config import ReadingConfig
    from flows.stages import pretokenize

    folder = Path(job.folder)
    valid = folder / "valid.txt"
    valid.write_text("A text to validate on, as short as can be.\n")
    work, out = folder / "work", folder / "out"
    for made in (work, out):
        made.mkdir()
    texts, watch = {"train": Path(job.text), "valid": valid}, _Watch()
    clock = _Clock()
    product = pretokenize.run(
        pretokenize.PretokenizeConfig(),
        ReadingConfig(),
        texts,
        Path(job.tokenizer),
        "0" * 64,
        out,
        work,
        lambda event: None,
        _map(job),
    )
    told: dict[str, Any] = clock.told()
    train: Any = product.facts["train"]
    return {
        "encode": told,
        "bytes": train["bytes"],
        "tokens": train["tokens"],
        "peak_bytes": watch.all_peak_bytes(),
    }


def _growth(job: Job) -> list[dict[str, Any]]:
    from lmcore.tokenizer.bpe import first_vocab
    from lmcore.tokenizer.fast_training import merge_words
    from lmcore.tokenizer.word_counts import count_words

    path, told = Path(job.text), []
    size = path.stat().st_size
    for halvings in reversed(range(GROWTH_PARTS)):
        forget_peak()
        texts = _Read(path, size >> halvings)
        words = count_words(texts)
        merge = {}
        for vocab_size in job.vocab_sizes:
            clock = _Clock()
            merge_words(words, list(first_vocab(())), vocab_size, lambda size: None)
            merge[str(vocab_size)] = clock.told()
        told.append(
            {
                "bytes": texts.n_bytes,
                "words": len(words.lengths),
                "merge": merge,
                "peak_bytes": peak_bytes(),
            }
        )
    return told


if __name__ == "__main__":
    main()
