"""Functions called in processes of their own."""

import math
import operator
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from flows.conductor.processes import WorkerProcesses
from lmcore.errors import InputError


def with_own_arguments(item: int) -> None:
    """Raise an exception that pickle takes in, and does not give out."""
    raise Unfit(item, "more")


class Unfit(Exception):
    def __init__(self, number: int, more: str) -> None:
        super().__init__(f"{number} {more}")


def bad_input(item: str) -> None:
    raise InputError(f"{item} is wrong")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_gone(process: int) -> bool:
    """Whether no process has this number any more."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_calls_at_the_same_time_each_have_a_process() -> None:
    """Results are the function's; there are as many processes as calls at once, then none."""
    with WorkerProcesses() as workers, ThreadPoolExecutor(3) as threads:
        call = partial(workers.call, operator.neg)
        assert list(threads.map(call, range(50))) == [-n for n in range(50)]
        assert 1 <= len(workers.begun) <= 3
        assert workers.call(len, b"x" * 10_000_000) == 10_000_000
    assert all(is_gone(worker.process.pid) for worker in workers.begun)


def test_errors_arrive_with_the_place_where_they_were_raised() -> None:
    """The same exception, a note with its traceback; the worker goes on."""
    with WorkerProcesses() as workers:
        with pytest.raises(InputError, match="this is wrong") as caught:
            workers.call(bad_input, "this")
        assert "bad_input" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="Unfit: 3 more"):
            workers.call(with_own_arguments, 3)
        with pytest.raises(ValueError, match=r"math domain|nonnegative"):
            workers.call(math.sqrt, -1.0)
        assert workers.call(abs, -1) == 1


def test_a_worker_that_dies_is_an_error_and_not_the_end() -> None:
    """The call says so; the next one has a new worker."""
    with WorkerProcesses() as workers:
        with pytest.raises(RuntimeError, match=r"died \(exit status -9\).*--workers"):
            workers.call(die, 0)
        assert workers.call(abs, -2) == 2


def test_a_worker_does_not_import_what_it_is_not_asked_for() -> None:
    """Neither Prefect nor torch nor what the main module needs: that is why it begins soon."""
    with WorkerProcesses() as workers:
        loaded = workers.call(eval, "set(__import__('sys').modules)")
    assert not {"prefect", "torch", "numpy", "pytest"} & loaded


def test_closing_does_not_wait_for_a_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves ends the workers, busy ones too."""
    monkeypatch.setattr("flows.conductor.processes.ENDING_SECONDS", 0.1)
    failed: list[Exception] = []

    def call() -> None:
        try:
            workers.call(time.sleep, 60)
        except Exception as error:
            failed.append(error)

    with WorkerProcesses() as workers:
        thread = threading.Thread(target=call)
        thread.start()
        while not workers.begun:
            time.sleep(0.01)
    thread.join(20)
    assert not thread.is_alive()
    assert is_gone(workers.begun[0].process.pid)
    assert failed
