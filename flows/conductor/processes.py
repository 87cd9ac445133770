"""Processes of this machine that call functions: each has one interpreter's lock to itself.

They import the module of the function they are given, and nothing else: not the main module, as
those of `multiprocessing` do, which would import Prefect in each. So one is at work a fraction of a
second after it was asked for. A worker ends when its pipe does, so none outlives its parent.
"""

import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

START = (
    "import sys; sys.path[:] = {path!r}; from flows.conductor.processes import serve; serve({n})"
)
ENDING_SECONDS = 5.0  # for a worker to see that its pipe has ended


class WorkerProcesses:
    """As many workers as calls are made at the same time, begun when they are first needed.

    Example:
      >>> with WorkerProcesses() as workers:
      ...     workers.call(abs, -3)
      3
    """

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.begun: list[Worker] = []

    def __enter__(self) -> "WorkerProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.begun:
            worker.close()

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """``fn(item)`` in a worker; threads may call at the same time.

        Args:
          fn: a function of a module, or a `functools.partial` of one.
          item: what pickle takes, and so must be the result.

        Raises:
          Exception: what ``fn`` raised, with the worker's traceback as a note.
          RuntimeError: the worker died.
        """
        try:
            worker = self.idle.pop()
        except IndexError:
            worker = Worker()
            self.begun.append(worker)
        result = worker.call(fn, item)
        self.idle.append(worker)  # not where it failed to answer
        return result


class Worker:
    """One process, and the parent's end of the pipe to it."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        code = START.format(path=sys.path, n=theirs.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()

    def call(self, fn: Callable[[T], R], item: T) -> R:
        message = pickle.dumps((fn, item), pickle.HIGHEST_PROTOCOL)
        try:
            self.connection.send_bytes(message)
            is_result, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            self.process.kill()
            status = self.process.wait()
            raise RuntimeError(
                f"a worker process died (exit status {status}); if memory ran out, lower --workers"
            ) from error
        if is_result:
            return value
        raise value

    def close(self) -> None:
        """End it, without waiting for a call that is under way."""
        self.connection.close()
        try:
            self.process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(descriptor: int) -> None:
    """What a worker does: answer calls until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pipe
    connection = Connection(descriptor)
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = answer_to(message)
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def answer_to(message: bytes) -> bytes:
    """The pickled outcome of a pickled call: ``(True, result)`` or ``(False, exception)``."""
    try:
        fn, item = pickle.loads(message)
        return pickle.dumps((True, fn(item)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            outcome = pickle.dumps((False, error))
            pickle.loads(outcome)  # some exceptions go in and do not come out
            return outcome
        except Exception:
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
