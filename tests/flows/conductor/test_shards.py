"""A function over shards gives the same list on every runner, and stops at the first error."""

import operator
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flows import engine
from flows.conductor import server, shards
from flows.conductor.shards import map_shards
from lmcore.errors import InputError


@given(items=st.lists(st.integers()), workers=st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], workers: int) -> None:
    """The result is that of a list comprehension, for any items and any number of workers."""
    assert list(map_shards(lambda n: n * n, items, workers=workers)) == [n * n for n in items]


def test_order_is_kept_when_the_first_shard_is_the_last_to_end() -> None:
    """A slow first shard keeps its place."""

    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    assert list(map_shards(work, [0.2, 0.0, 0.1], workers=3)) == [0.2, 0.0, 0.1]


@given(failing=st.integers(0, 9), workers=st.integers(1, 4), ahead=st.integers(0, 3))
def test_first_error_stops_what_has_not_begun(failing: int, workers: int, ahead: int) -> None:
    """Results before the shard that raises are given; only those under way beside it are begun."""
    begun: list[int] = []
    taken: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        if n == failing:
            raise ValueError(f"shard {n}")
        return n

    with pytest.raises(ValueError, match=f"shard {failing}"):
        taken.extend(map_shards(work, range(10), workers=workers, ahead=ahead))
    assert taken == list(range(failing))
    assert set(range(failing + 1)) <= set(begun) <= set(range(failing + workers + ahead))


@given(good=st.integers(0, 6), workers=st.integers(1, 3))
def test_items_that_cannot_be_read_fail_in_their_place(good: int, workers: int) -> None:
    """The results of the items read before come first, then the error of the reading."""

    def items() -> Iterator[int]:
        yield from range(good)
        raise InputError("not UTF-8")

    taken: list[int] = []
    with pytest.raises(InputError, match="not UTF-8"):
        taken.extend(map_shards(lambda n: n, items(), workers=workers))
    assert taken == list(range(good))


@given(workers=st.integers(1, 3), ahead=st.integers(0, 3))
def test_items_are_read_as_results_are_taken(workers: int, ahead: int) -> None:
    """No more items are held than the workers and those that wait; nor after the last was taken."""
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for n in range(12):
            read += 1
            yield n

    for taken, _ in enumerate(map_shards(abs, items(), workers=workers, ahead=ahead)):
        assert read - taken <= workers + ahead
    assert read == 12


def test_work_goes_on_while_a_result_is_looked_at() -> None:
    """While the caller holds a result, the next ones are made."""
    begun = [threading.Event() for _ in range(3)]

    def work(n: int) -> int:
        begun[n].set()
        return n

    for n in map_shards(work, range(3), workers=1, ahead=1):
        assert all(event.wait(10) for event in begun[: n + 2])


def test_results_that_are_not_wanted_are_not_made() -> None:
    """Whoever takes no more results stops what has not begun."""
    done: list[int] = []
    shards_made = map_shards(done.append, range(100), workers=1)
    next(shards_made)
    shards_made.close()  # type: ignore[attr-defined]
    assert len(done) <= 4


def test_no_more_shards_than_workers_are_at_work() -> None:
    """The number of workers bounds how many shards are at work at once."""
    at_work, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1

    list(map_shards(work, range(12), workers=3))
    assert most == 3


def test_processes_give_the_same_list() -> None:
    """Fresh processes give the same results as threads."""
    items = [-3, 0, 4]
    assert list(map_shards(operator.neg, items, runner="processes", workers=1)) == [3, 0, -4]


def where(item: int) -> tuple[int, int]:
    """The item, and the process that was given it."""
    return item, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_auto_goes_on_with_processes_where_there_is_much_to_do(workers: int) -> None:
    """The first shards stay here, and all where one worker does them; the list is the same."""
    n = shards.AUTO_SHARDS + 5
    found = list(map_shards(where, range(n), runner="auto", workers=workers))
    assert [item for item, _ in found] == list(range(n))
    here = [process == os.getpid() for _, process in found]
    assert here.count(True) == (shards.AUTO_SHARDS if workers > 1 else n)
    assert here[0]
    assert here[-1] == (workers == 1)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_missing_package_is_named(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner whose package is missing is an error that says what to install."""
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf'pip install "lmcore\[{runner}\]"'):
        map_shards(abs, [1], runner=runner)


def test_cluster_without_prefect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask and Ray are reached through Prefect, so the engine none refuses them."""
    monkeypatch.setattr(shards, "find_spec", lambda name: object())
    monkeypatch.setattr(server, "_state", server._State())
    with pytest.raises(InputError, match="--engine prefect, or --runner processes"):
        map_shards(abs, [1], runner="dask")


def test_shards_are_task_runs_where_prefect_conducts(
    conducted: None, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    """Inside a conducted run each shard shows as a task run, and the results are the same."""
    from prefect.client.orchestration import get_client

    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    square = engine.task("squares")(lambda: list(map_shards(lambda n: n * n, range(5), workers=2)))
    assert engine.run_flow(engine.flow("shards")(square)).value == [0, 1, 4, 9, 16]
    with get_client(sync_client=True) as client:
        names = eventually(
            lambda: len([t for t in client.read_task_runs() if t.name.startswith("shard")]) >= 5
        )
    assert names


def test_failing_shard_ends_the_run_with_its_own_error(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a shard raises comes out of the run as it is, printed once."""
    monkeypatch.setenv("LMCORE_ENGINE", "prefect")

    def work(n: int) -> int:
        if n == 1:
            raise InputError("shard 1 is not UTF-8")
        return n

    flow = engine.flow("stand-in")(lambda: list(map_shards(work, range(4), workers=1)))
    assert engine.run_flow(flow).status == 1
    assert capfd.readouterr().err == "error: shard 1 is not UTF-8\n"


def test_shards_that_prefect_fails_to_run_are_run_plainly(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where Prefect breaks while it maps, the missing shards alone are done, as plain calls."""
    import httpx

    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    done: list[int] = []

    class Broken:
        def __enter__(self) -> "Broken":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, task: Any, parameters: dict[str, Any]) -> Any:
            if len(done) == 2:
                raise httpx.ConnectError("refused")
            return ThreadPoolExecutor(1).submit(task.fn, parameters["item"])

    monkeypatch.setattr(shards, "task_runner", lambda runner, width: Broken())

    def work(n: int) -> int:
        done.append(n)
        return -n

    flow = engine.flow("stand-in")(lambda: list(map_shards(work, range(4), workers=1)))
    assert engine.run_flow(flow).value == [0, -1, -2, -3]
    assert done == [0, 1, 2, 3]
    assert "goes on without it" in capfd.readouterr().err


@pytest.mark.slow
def test_prefects_processes_give_the_same_list(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's process runner gives the results that threads give."""
    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    flow = engine.flow("stand-in")(
        lambda: list(map_shards(operator.neg, [-3, 0, 4], runner="processes", workers=2))
    )
    assert engine.run_flow(flow).value == [3, 0, -4]
