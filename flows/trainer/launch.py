"""Starting a training process, listening to it, and never leaving it behind.

The process runs in a session of its own, so that Ctrl-C reaches only the parent, which then asks
the process to stop: it finishes its step, writes a checkpoint and goes. It inherits the lock on
its work folder; the kernel frees it when the last of them has gone.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flows.progress.events import Notify, from_line
from flows.trainer.job import Job, write_job
from flows.trainer.lifeline import CLEARED, environment
from lmcore.errors import InputError

GRACE_SECONDS = 4.0


def launch(job: Job, notify: Notify, keep_open: Sequence[int] = ()) -> None:
    """Run a job in a process of its own and pass its events on.

    Args:
      job: what to do.
      notify: who is told.
      keep_open: descriptors that the process inherits: the locks on the job's folders.

    Raises:
      InputError: the job failed for a reason that the user can mend.
      RuntimeError: it failed for another; the text holds its traceback.
    """
    with tempfile.TemporaryDirectory(prefix="lmcore-job-") as folder:
        job_path = Path(folder) / "job.json"
        write_job(job, job_path)
        process = start(job, job_path, keep_open)
        try:
            failure = listen(process, notify)
            process.wait()
        except BaseException:
            stop(process)
            raise
        finally:  # not before it has ended: it may speak while it stops
            assert process.stdout is not None
            process.stdout.close()
    if process.returncode != 0:
        raise explain(process.returncode, job, failure)


def start(job: Job, job_path: Path, keep_open: Sequence[int]) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in CLEARED}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.worker", str(job_path)],
        env=inherited | environment(job.numerics.threads, job.compiled),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )


def listen(process: subprocess.Popen[str], notify: Notify):
    """Pass events on until the process closes its output; return its last failure, if any."""
    failure = None
    assert process.stdout is not None
    for line in process.stdout:
        event = from_line(line)
        if event is None:
            sys.stderr.write(line)
        elif event.kind == "failed":
            failure = failure or event
        else:
            notify(event)
    return failure


def stop(process: subprocess.Popen[str]) -> None:
    """Ask the whole process group to end, wait a little, then insist.

    What it says meanwhile is read and forgotten: a full pipe would keep it from its checkpoint.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.communicate(timeout=GRACE_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue


def explain(code: int, job: Job, failure) -> Exception:
    """The exception for a process that ended with ``code``."""
    if failure is not None and not failure.data.get("bug"):
        error, number = InputError(failure.text), failure.data.get("no_room")
        if number is not None:  # what it came from crosses by number, for the store to explain
            error.__cause__ = OSError(number, os.strerror(number))
        return error
    if failure is not None:
        return RuntimeError(f"the {job.stage} process failed: {failure.text}")
    if code == -signal.SIGKILL:
        return InputError(
            f"the {job.stage} process was killed (signal 9), most often for want of memory: lower "
            "--numerics.micro-batch or the model's size, and run again; training resumes"
        )
    return RuntimeError(f"the {job.stage} process ended with exit code {code}")
