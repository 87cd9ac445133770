"""One measurement in a process of its own: ``python -m benchmarks.tokenizer.worker JOB``.

Times are processor seconds of the whole process, threads included, from `getrusage`: they do not
grow while another program has the core. Memory is the peak that the work added to what the process
held with its text read.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from benchmarks.tokenizer.engines import Engine, Vocabulary, encoder, trainer
from benchmarks.tokenizer.texts import documents

SENTENCE_CALLS = 2_000


@dataclass(frozen=True)
class Job:
    """What to measure.

    kind: training; encoding to arrays or to lists, twice in a row; or one sentence, many times.
    text: the file that is read.
    vocab_size: of the vocabulary trained, or of the one in ``vocabulary``.
    core: the core to stay on; -1 leaves it open.
    result: the file that gets the merges or ids; "" writes none.
    vocabulary: the file of a trained one, for encoding.
    part, parts: for encoding, which of so many parts of the documents.
    """

    kind: Literal["train", "arrays", "lists", "sentence"]
    engine: Engine
    text: str
    vocab_size: int
    core: int = -1
    result: str = ""
    vocabulary: str = ""
    part: int = 0
    parts: int = 1


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    if job.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})
    print(json.dumps(measure(job)))


def measure(job: Job) -> dict[str, Any]:
    """Do the job; what is told depends on its kind."""
    text = Path(job.text).read_bytes().decode()
    return (_train if job.kind == "train" else _encode)(job, text)


def _train(job: Job, text: str) -> dict[str, Any]:
    began = processor_seconds()
    train = trainer(job.engine)
    import_seconds = processor_seconds() - began
    held = forget_peak()
    read, seconds = timed(lambda: train(text, job.vocab_size))
    added = peak_bytes() - held
    merges = read()
    if job.result:
        write_vocabulary(Path(job.result), merges)
    return {
        "import_seconds": import_seconds,
        "seconds": [seconds],
        "added_bytes": added,
        "n": len(merges),
        "digest": digest_of(merges),
    }


def _encode(job: Job, text: str) -> dict[str, Any]:
    vocabulary = read_vocabulary(Path(job.vocabulary))
    began = processor_seconds()
    made = encoder(job.engine, vocabulary, Path(job.vocabulary).parent)
    import_seconds = processor_seconds() - began
    held = forget_peak()
    if job.kind == "sentence":
        sentence = text[:200]
        for _ in range(SENTENCE_CALLS // 10):
            made.one(sentence)
        found, seconds = timed(lambda: [made.one(sentence) for _ in range(SENTENCE_CALLS)])
        ids, times, wall = found[0], [seconds / SENTENCE_CALLS], seconds
        added = peak_bytes() - held
    else:
        texts = list(documents(text))
        texts = texts[len(texts) * job.part // job.parts : len(texts) * (job.part + 1) // job.parts]
        work = made.arrays if job.kind == "arrays" else made.lists
        started = time.perf_counter()
        _, cold = timed(lambda: work(texts))
        found, warm = timed(lambda: work(texts))
        times = [cold, warm]
        wall = time.perf_counter() - started
        added = peak_bytes() - held
        ids = made.flat(found) if job.kind == "arrays" else [i for one in found for i in one]
    if job.result:
        import numpy as np

        np.save(job.result, np.array(ids, np.uint32))
    return {
        "import_seconds": import_seconds,
        "wall_seconds": wall,
        "seconds": times,
        "added_bytes": added,
        "n": len(ids),
        "digest": digest_of(ids),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` gave, and its processor seconds."""
    began = processor_seconds()
    found = work()
    return found, processor_seconds() - began


def processor_seconds() -> float:
    """Of this process and its threads, so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def forget_peak() -> int:
    """Let the peak begin anew, where the system can; the memory held now, or the peak so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process held, since `forget_peak` where the system can tell."""
    with suppress(OSError):
        return peak_bytes_of("self")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_bytes_of(process: str) -> int:
    """The most memory that a process held, by its number or "self"; of one that has ended, 0.

    Raises:
      OSError: there is no such process, or the system does not tell.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def digest_of(values: list) -> str:
    """Equal for equal lists of merges or ids."""
    return sha256(repr(values).encode()).hexdigest()


def write_vocabulary(path: Path, merges: list[tuple[bytes, bytes]]) -> None:
    """Merges as JSON: bytes as the characters of the same numbers."""
    path.write_text(json.dumps([[a.decode("latin-1"), b.decode("latin-1")] for a, b in merges]))


def read_vocabulary(path: Path) -> Vocabulary:
    """The special token, the bytes, and a token for each merge."""
    from benchmarks.tokenizer.engines import SPECIAL

    merges = [(a.encode("latin-1"), b.encode("latin-1")) for a, b in json.loads(path.read_text())]
    tokens = [SPECIAL.encode(), *(bytes([byte]) for byte in range(256))]
    return Vocabulary([*tokens, *(a + b for a, b in merges)], merges)


if __name__ == "__main__":
    main()
