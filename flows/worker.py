"""What a training process runs: `python -m flows.worker JOB.json`.

The process is started by `flows.trainer.launch`, with its threads and memory allocator pinned
before torch is imported; it reports events as JSON lines on standard output. With several
processes it becomes torchrun's agent, which starts this module once for each rank.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

from flows.disk.errors import lack_of_room
from flows.progress.events import Event, to_line
from flows.trainer.job import Job, read_job
from flows.trainer.lifeline import die_with_parent, give_back_freed_memory, keep_freed_memory
from lmcore.errors import InputError


def main(argv: list[str]) -> int:
    die_with_parent()
    job = read_job(Path(argv[0]))
    if job.numerics.processes > 1 and "RANK" not in os.environ:
        return start_ranks(job, argv[0])
    if job.numerics.activation_checkpointing:
        give_back_freed_memory()
    else:
        keep_freed_memory()
    try:
        run(job)
    except InputError as error:
        say(Event("failed", job.stage, str(error), {"no_room": lack_of_room(error)}))
        return 1
    except Exception as error:
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        say(Event("failed", job.stage, text, {"bug": True}))
        return 70
    return 0


def run(job: Job) -> None:
    """Do the job's work; its module is imported here, after the process has been set up."""
    if job.stage == "pretrain":
        from flows.trainer.loop import pretrain

        pretrain(job, say)
    else:
        from flows.trainer.scoring import evaluate

        evaluate(job, say)


def start_ranks(job: Job, job_path: str) -> int:
    """Become torchrun: one process of this module for each rank, on this machine."""
    from torch.distributed.run import main as torchrun

    processes = str(job.numerics.processes)
    torchrun(["--standalone", "--nproc-per-node", processes, "-m", "flows.worker", job_path])
    return 0


def say(event: Event) -> None:
    """Send an event to the parent; only rank 0 speaks, except of failures.

    Where nobody listens any more, because the parent was killed, the process ends as one that is
    asked to: at once, or while it trains after a checkpoint of the step at work.
    """
    if event.kind == "failed" or os.environ.get("RANK", "0") == "0":
        try:
            print(to_line(event), flush=True)
        except BrokenPipeError:
            # What is still to be said goes nowhere, without another error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
