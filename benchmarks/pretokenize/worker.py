"""One measurement in a process of its own: ``python -m benchmarks.pretokenize.worker JOB``.

The clock runs from the closed text file to the closed Parquet files. Processor seconds are those of
the process, its threads and the processes that it started and that have ended.
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pretokenize.sides import Side, Work, digest_of, prepare


@dataclass(frozen=True)
class Job:
    """What to measure.

    side: whose way.
    cores: to stay on, and how many encode.
    text, valid, tokenizer, vocabulary: files, see `sides.Work`.
    folder: an empty one to write into.
    """

    side: Side
    cores: int
    text: str
    valid: str
    tokenizer: str
    vocabulary: str
    folder: str


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    print(json.dumps(measure(job)))


def measure(job: Job) -> dict[str, Any]:
    """Do the job: seconds, and what the files hold."""
    began = processor_seconds()
    work = Work(
        text=Path(job.text),
        valid=Path(job.valid),
        tokenizer=Path(job.tokenizer),
        vocabulary=Path(job.vocabulary),
        cores=job.cores,
    )
    do = prepare(job.side, work, Path(job.folder))
    import_seconds = processor_seconds() - began
    began, started = processor_seconds(), time.perf_counter()
    made = do()
    return {
        "wall_seconds": time.perf_counter() - started,
        "processor_seconds": processor_seconds() - began,
        "import_seconds": import_seconds,
        **digest_of(made),
    }


def processor_seconds() -> float:
    """Of this process, its threads, and its children that have ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


if __name__ == "__main__":
    main()
